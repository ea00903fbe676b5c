"""Shards: encodes clean pairs as subword ids in ArrayRecord files and counts them."""
# SPDX-License-Identifier: Apache-2.0

import functools
import itertools
import pathlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from gshard_mt.config.records import DataConfig
from gshard_mt.data.cleaning.clean import is_ratio_above, normalize_all, usual_ratio
from gshard_mt.data.prepare.blocks import StoredBlock, read_drops
from gshard_mt.data.prepare.drops import NUM_SAMPLES, DropKey, Drops, Tally
from gshard_mt.data.prepare.keys import ENTRY_SHIFT, KeyedPairs, Split
from gshard_mt.data.prepare.selection import read_kept
from gshard_mt.data.records import ShardInfo, serialize, write_shard
from gshard_mt.data.tokenizer import Tokenizer, load_tokenizer

SHARD_BLOCKS = 16
LENGTH_BIN = 8  # subwords per bar of a length histogram


@dataclass
class SideCounts:
    """Totals of one side of the kept pairs."""

    tokens: int = 0
    words: int = 0  # separated by spaces
    characters: int = 0
    unknown: int = 0  # characters that the vocabulary spells as bytes
    # The number of pairs whose length is in each bin of LENGTH_BIN tokens.
    lengths: Counter[int] = field(default_factory=Counter)

    def add(self, other: "SideCounts") -> None:
        self.tokens += other.tokens
        self.words += other.words
        self.characters += other.characters
        self.unknown += other.unknown
        self.lengths += other.lengths


class CorpusCounts(NamedTuple):
    """Totals of the pairs of one corpus."""

    pairs: int = 0
    source_tokens: int = 0
    target_tokens: int = 0


@dataclass
class SplitCounts:
    """Totals of a split or of one shard."""

    pairs: int = 0
    source: SideCounts = field(default_factory=SideCounts)
    target: SideCounts = field(default_factory=SideCounts)
    corpora: dict[int, CorpusCounts] = field(default_factory=dict)  # by number in the recipe

    def add(self, other: "SplitCounts") -> None:
        self.pairs += other.pairs
        for corpus, more in other.corpora.items():
            sums = zip(self.corpora.get(corpus, CorpusCounts()), more, strict=True)
            self.corpora[corpus] = CorpusCounts(*map(sum, sums))
        self.source.add(other.source)
        self.target.add(other.target)


class Lengths(NamedTuple):
    """The lengths, in subwords, of the pairs of a shard's blocks so far."""

    source: list[np.ndarray]
    target: list[np.ndarray]

    def add(self, source: Sequence[Sequence[int]], target: Sequence[Sequence[int]]) -> None:
        self.source.append(_lengths(source))
        self.target.append(_lengths(target))


class Shard(NamedTuple):
    """One file of a dataset, with the totals of the pairs in it and of those dropped."""

    info: ShardInfo
    counts: SplitCounts
    drops: Drops


def write_blocks(
    blocks: Sequence[StoredBlock],
    language: str,
    path: pathlib.Path,
    config: DataConfig,
    data_dir: pathlib.Path,
    tokenizer_hash: str,
) -> Shard:
    """Encodes the kept pairs of training blocks and writes them to `path`."""
    parts = (read_kept(block, read_drops(block)) for block in blocks)
    tokenizer = cached_tokenizer(data_dir, tokenizer_hash)
    return write_pairs(parts, (language, "train"), path, tokenizer, config)


def write_pairs(
    parts: Iterable[KeyedPairs],
    language_and_split: Split,
    path: pathlib.Path,
    tokenizer: Tokenizer,
    config: DataConfig,
) -> Shard:
    """Encodes pairs, one part at a time, and writes those that fit in a row; test is kept whole."""
    language, split = language_and_split
    counts, drops, lengths = SplitCounts(), Drops(), Lengths([], [])

    def records() -> Iterator[bytes]:
        for pairs in parts:
            texts = [pairs.source, pairs.english]
            if split != "train":  # stored as they are scored, but the model reads normalized text
                texts = list(map(normalize_all, texts))
            ids = tokenizer.encode_source(texts[0]), tokenizer.encode_target(texts[1])
            is_kept = np.ones(len(pairs.keys), bool)
            lengths.add(*ids)
            for reason, is_bad in why_drop(split, lengths, config).items():
                rows = np.flatnonzero(is_bad & is_kept)
                corpora = pairs.keys["id"][rows] >> ENTRY_SHIFT
                for corpus in np.unique(corpora).tolist():
                    some = rows[corpora == corpus]
                    samples = pairs.rows(np.sort(some)[:NUM_SAMPLES]).as_dropped()
                    drops.add(DropKey(language, corpus, reason), Tally(len(some), samples))
                is_kept[rows] = False
            if not is_kept.all():
                kept = np.flatnonzero(is_kept)
                pairs = pairs.rows(kept)
                texts = [[side[i] for i in kept] for side in texts]
                ids = [ids[0][i] for i in kept], [ids[1][i] for i in kept]
            source = _count(texts[0], ids[0], tokenizer.starts_unknown_source)
            target = _count(texts[1], ids[1], tokenizer.starts_unknown_target)
            corpora = _count_corpora(pairs.keys["id"] >> ENTRY_SHIFT, *map(_lengths, ids))
            counts.add(SplitCounts(len(pairs.keys), source, target, corpora))
            yield from map(serialize, pairs.keys["id"].tolist(), *ids)

    return Shard(write_shard(path, records()), counts, drops)


@functools.lru_cache(1)
def cached_tokenizer(data_dir: pathlib.Path, hash: str) -> Tokenizer:
    """Loads a tokenizer once per process; `hash` tells apart two that were in one directory."""
    del hash
    return load_tokenizer(data_dir)


def why_drop(split: str, lengths: Lengths, config: DataConfig) -> dict[str, np.ndarray]:
    """Returns for each reason which pairs of the last block to drop."""
    if split == "test":
        return {}
    num_source, num_target = lengths.source[-1], lengths.target[-1]
    is_long = (num_source >= config.source_length) | (num_target >= config.target_length)
    if split == "dev":
        return {"dev_row_length": is_long}
    reasons = {"row_length": is_long}
    if (most := config.cleaning.max_length_ratio) and len(num_source):
        usual = usual_ratio(np.concatenate(lengths.source), np.concatenate(lengths.target))
        reasons["length_ratio"] = is_ratio_above(num_source, num_target, most, usual)
    return reasons


def _count_corpora(
    corpus_of: np.ndarray, source_lengths: np.ndarray, target_lengths: np.ndarray
) -> dict[int, CorpusCounts]:
    """Returns the totals by corpus of pairs, each with its corpus and lengths."""
    found = {}
    for corpus in np.unique(corpus_of).tolist():
        rows = corpus_of == corpus
        tokens = int(source_lengths[rows].sum()), int(target_lengths[rows].sum())
        found[corpus] = CorpusCounts(int(rows.sum()), *tokens)
    return found


def _lengths(ids: Sequence[Sequence[int]]) -> np.ndarray:
    return np.fromiter(map(len, ids), np.int64, len(ids))


def _count(
    texts: Sequence[str], ids: Sequence[Sequence[int]], starts_unknown: np.ndarray
) -> SideCounts:
    if not texts:
        return SideCounts()
    lengths = _lengths(ids)
    flat = np.fromiter(itertools.chain.from_iterable(ids), np.int64, int(lengths.sum()))
    text = "\n".join(texts)
    return SideCounts(
        len(flat),
        text.count(" ") + len(texts),
        len(text) - len(texts) + 1,
        int(np.count_nonzero(starts_unknown[flat])),
        Counter((lengths // LENGTH_BIN).tolist()),
    )
