"""The streams of the training data, one of each language pair or one of each of its corpora."""
# SPDX-License-Identifier: Apache-2.0

from collections import Counter
from typing import NamedTuple

from gshard_mt.data.prepared import Prepared


class Stream(NamedTuple):
    """Contiguous training records of a language pair that are read in an order of their own."""

    name: str  # `de-en`, or `de-en/europarl` of one corpus
    pair: int  # number of the language pair
    first_record: int  # in the records of the language pair
    pairs: int
    source_tokens: int
    target_tokens: int
    corpus: str = ""  # its name
    weight: float = 1.0  # in the recipe


def list_streams(prepared: Prepared, has_corpora: bool) -> list[Stream]:
    """Returns the streams of all language pairs, or of all their corpora, sorted by their names.

    Where two corpora of a language have one name, the second's stream is `de-en/NAME/2`.
    """
    streams = []
    for number, pair in enumerate(prepared.language_pairs):
        if not has_corpora:
            counts = prepared.num_examples[pair]["train"], *prepared.num_tokens[pair]["train"]
            streams.append(Stream(pair, number, 0, *counts))
            continue
        first, seen = 0, Counter[str]()
        for corpus in prepared.corpora[pair]:
            seen[corpus.name] += 1
            again = f"/{seen[corpus.name]}" if seen[corpus.name] > 1 else ""
            counts = corpus.pairs, corpus.source_tokens, corpus.target_tokens
            name = f"{pair}/{corpus.name}{again}"
            streams.append(Stream(name, number, first, *counts, corpus.name, corpus.weight))
            first += corpus.pairs
    return sorted(streams)
