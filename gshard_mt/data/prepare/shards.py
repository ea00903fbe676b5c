"""Shards: clean pairs become subword ids in ArrayRecord files, and counts for the report."""
# SPDX-License-Identifier: Apache-2.0

import functools
import itertools
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from gshard_mt.config.records import DataConfig
from gshard_mt.data.cleaning.clean import is_ratio_above
from gshard_mt.data.examples import Columns, serialize_examples
from gshard_mt.data.prepare.blocks import StoredBlock, read_drops
from gshard_mt.data.prepare.drops import NUM_SAMPLES, Drops
from gshard_mt.data.prepare.keys import KeyedPairs
from gshard_mt.data.prepare.selection import read_kept
from gshard_mt.data.records import ShardInfo, write_shard
from gshard_mt.data.tokenizer import Tokenizer, load_tokenizer

SHARD_BLOCKS = 16
LENGTH_BIN = 8  # subwords of a bar in a length histogram


class Encoding(NamedTuple):
    """How pairs become ids: the settings, and where which tokenizer lies."""

    config: DataConfig
    data_dir: pathlib.Path
    tokenizer_hash: str


@dataclass
class SideCounts:
    """What one side of the kept pairs adds up to."""

    tokens: int = 0
    words: int = 0  # between spaces
    characters: int = 0
    unknown: int = 0  # characters that the vocabulary spells in bytes
    lengths: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # pairs by 8 tokens

    def add(self, other: "SideCounts") -> None:
        self.tokens += other.tokens
        self.words += other.words
        self.characters += other.characters
        self.unknown += other.unknown
        size = max(len(self.lengths), len(other.lengths))
        self.lengths = _padded(self.lengths, size) + _padded(other.lengths, size)


@dataclass
class SplitCounts:
    """What a split, or a shard of it, adds up to."""

    pairs: int = 0
    source: SideCounts = field(default_factory=SideCounts)
    target: SideCounts = field(default_factory=SideCounts)

    def add(self, other: "SplitCounts") -> None:
        self.pairs += other.pairs
        self.source.add(other.source)
        self.target.add(other.target)


class Shard(NamedTuple):
    """One file of a dataset, and what became of the pairs that it was made of."""

    info: ShardInfo
    counts: SplitCounts
    drops: Drops


def write_blocks(
    blocks: Sequence[StoredBlock], language: str, path: pathlib.Path, encoding: Encoding
) -> Shard:
    """Encodes what is kept of training blocks and writes it to `path`."""
    parts = (read_kept([block], [read_drops(block)]) for block in blocks)
    return write_pairs(parts, language, "train", path, encoding)


def write_pairs(
    parts: Iterable[KeyedPairs], language: str, split: str, path: pathlib.Path, encoding: Encoding
) -> Shard:
    """Encodes pairs, a part at a time, and writes those that fit in a row; a test is kept whole."""
    counts, drops = SplitCounts(), Drops()
    records = _encode(parts, language, split, encoding, Shard(ShardInfo(path, 0, 0), counts, drops))
    return Shard(write_shard(path, records), counts, drops)


def _encode(
    parts: Iterable[KeyedPairs], language: str, split: str, encoding: Encoding, shard: Shard
) -> Iterator[bytes]:
    """Yields the serialized records of a shard, whose counts and drops it adds to."""
    tokenizer = _tokenizer(encoding.data_dir, encoding.tokenizer_hash)
    for pairs in parts:
        ids = tokenizer.encode_source(pairs.source), tokenizer.encode_target(pairs.english)
        is_kept = np.ones(len(pairs.keys), bool)
        lengths = _lengths(ids[0]), _lengths(ids[1])
        for reason, is_bad in _why_drop(split, *lengths, encoding.config).items():
            places = np.flatnonzero(is_bad & is_kept)
            if len(places):
                samples = pairs.rows(places[:NUM_SAMPLES]).sentences()
                shard.drops.add(language, reason, len(places), samples)
                is_kept[places] = False
        if not is_kept.all():
            kept = np.flatnonzero(is_kept)
            pairs = pairs.rows(kept)
            ids = [ids[0][i] for i in kept], [ids[1][i] for i in kept]
        sides = Columns(*_flatten(ids[0]), *_flatten(ids[1]))
        source = _count(pairs.source, *sides[:2], tokenizer.starts_unknown_source)
        target = _count(pairs.english, *sides[2:], tokenizer.starts_unknown_target)
        shard.counts.add(SplitCounts(len(pairs.keys), source, target))
        yield from serialize_examples(pairs.keys["id"], sides)


def _why_drop(
    split: str, num_source: np.ndarray, num_target: np.ndarray, config: DataConfig
) -> dict[str, np.ndarray]:
    if split == "test":
        return {}
    is_long = (num_source >= config.source_length) | (num_target >= config.target_length)
    if split == "dev":
        return {"dev_row_length": is_long}
    is_uneven = is_ratio_above(num_source, num_target, config.cleaning.max_length_ratio)
    return {"row_length": is_long, "length_ratio": is_uneven}


@functools.lru_cache(1)
def _tokenizer(data_dir: pathlib.Path, hash: str) -> Tokenizer:
    del hash  # another tokenizer in the same place is another one
    return load_tokenizer(data_dir)


def _lengths(ids: Sequence[Sequence[int]]) -> np.ndarray:
    return np.fromiter(map(len, ids), np.int64, len(ids))


def _flatten(ids: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Returns all ids end to end, int32, and the length of each list."""
    lengths = _lengths(ids)
    flat = itertools.chain.from_iterable(ids)
    return np.fromiter(flat, np.int32, int(lengths.sum())), lengths


def _count(
    texts: Sequence[str], ids: np.ndarray, lengths: np.ndarray, starts_unknown: np.ndarray
) -> SideCounts:
    if not texts:
        return SideCounts()
    text = "\n".join(texts)
    return SideCounts(
        len(ids),
        text.count(" ") + len(texts),
        len(text) - len(texts) + 1,
        int(np.count_nonzero(starts_unknown[ids])),
        np.bincount(lengths // LENGTH_BIN),
    )


def _padded(counts: np.ndarray, size: int) -> np.ndarray:
    return np.pad(counts, (0, size - len(counts)))
