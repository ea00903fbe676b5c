"""A vocabulary map for CTranslate2: the target subwords that each source subword may become.

With it the softmax of a sentence has a few hundred subwords instead of the whole vocabulary.
"""
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse

from gshard_mt.data.prepared import Prepared
from gshard_mt.data.records import Record

NAME = "vmap.txt"
MAX_PAIRS = 200_000  # read, the same share of every language pair

_NUM_CANDIDATES = 20  # of a source subword, at most
_NUM_SINGLE = 5  # of these even if they occurred together with it only once
_NUM_COMMON = 100  # target subwords that every sentence may have
_CHUNK = 10_000  # pairs read at a time


class VocabularyMap(NamedTuple):
    """Target ids: those of every sentence, and by source id those that occur together with it."""

    common: Sequence[int]
    candidates: dict[int, Sequence[int]]  # the most typical first

    def to_text(self, source: Sequence[str], target: Sequence[str]) -> str:
        """Returns the file: a source subword, tab, target subwords; the first line has no source.

        A subword with white space, which the format can't express, has no line.
        """
        lines = {"": self.common}
        lines |= {source[id]: found for id, found in self.candidates.items()}
        return "".join(
            f"{key}\t{' '.join(target[id] for id in found)}\n"
            for key, found in lines.items()
            if not any(character.isspace() for character in key)
        )


def learn(chunks: Iterable[list[Record]], vocab_sizes: tuple[int, int]) -> VocabularyMap:
    """Counts in how many sentence pairs subwords occur together.

    The candidates of a source subword have the largest Dice coefficients with it, twice the number
    of pairs with both by the sum of the numbers of pairs with either. Most of those that were
    together with it only once are left out.
    """
    both_ST = sparse.csr_matrix(vocab_sizes, dtype=np.int64)
    source_S, target_T = (np.zeros(size, np.int64) for size in vocab_sizes)
    for chunk in chunks:
        of_S, of_T = map(_occurrences, zip(*chunk, strict=True), vocab_sizes)
        both_ST += of_S.T @ of_T
        source_S += of_S.getnnz(axis=0)
        target_T += of_T.getnnz(axis=0)
    candidates = {}
    for id in np.flatnonzero(source_S):
        row = both_ST[id]
        dice = 2 * row.data / (source_S[id] + target_T[row.indices])
        best = np.argsort(-dice, kind="stable")[:_NUM_CANDIDATES]
        is_kept = (np.arange(len(best)) < _NUM_SINGLE) | (row.data[best] > 1)
        candidates[int(id)] = row.indices[best[is_kept]].tolist()
    common = np.argsort(-target_T, kind="stable")[:_NUM_COMMON]
    return VocabularyMap([int(id) for id in common if target_T[id]], candidates)


def draw(
    prepared: Prepared, pairs: Iterable[str], max_pairs: int = MAX_PAIRS
) -> Iterator[list[Record]]:
    """Yields training pairs, many at a time: the same share of every language, evenly spaced."""
    numbers = {pair: prepared.train_pairs[pair] for pair in pairs}
    step = -(-sum(numbers.values()) // max_pairs)
    for pair, number in numbers.items():
        reader = prepared.reader(pair, "train")
        indices = np.arange(0, number, step)
        for start in range(0, len(indices), _CHUNK):
            yield reader.read(indices[start : start + _CHUNK])


def _occurrences(sentences: Sequence[np.ndarray], vocab_size: int) -> sparse.csr_matrix:
    """Returns a matrix [sentences, subwords] of 1 where a sentence has a subword."""
    rows = np.repeat(np.arange(len(sentences)), [len(ids) for ids in sentences])
    cells = np.ones(len(rows), np.int64), (rows, np.concatenate(sentences))
    found = sparse.csr_matrix(cells, (len(sentences), vocab_size))
    found.sum_duplicates()
    found.data[:] = 1
    return found
