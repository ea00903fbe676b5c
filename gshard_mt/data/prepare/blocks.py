"""Blocks: a few thousand pairs of one language each, stored on disk once they are clean."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import zstandard

from gshard_mt.data.corpora.entry import Entry, Pair
from gshard_mt.data.corpora.readers import SCHEMES

BLOCK_PAIRS = 8192
_BLOCK_CHARACTERS = 1 << 23  # limits a block of very long lines
_BUFFER_CHARACTERS = 1 << 26  # limits all languages that are read at once
_ENTRY_SHIFT = 40  # an id is the number of the corpus in the recipe, then the pair's in the corpus


class RawBlock(NamedTuple):
    """Pairs as read, of one language tag in one corpus of the recipe."""

    tag: str
    split: str
    id: np.ndarray  # int64, increasing
    source: list[str]
    english: list[str]


class StoredBlock(NamedTuple):
    """A clean block on disk: `path` with .keys.npy and .text.zst, later .drop.npy."""

    tag: str
    split: str
    path: pathlib.Path
    num_pairs: int
    first_id: int


class _Buffer:
    def __init__(self) -> None:
        self.indices: list[int] = []
        self.source: list[str] = []
        self.english: list[str] = []
        self.num_characters = 0


def read_blocks(entry: Entry, corpus: int) -> Iterator[RawBlock]:
    """Yields the blocks of the recipe's n-th corpus. Raises DataError if it is empty."""
    return cut_blocks(SCHEMES[entry.scheme].read(entry), corpus, entry.split)


def cut_blocks(pairs: Iterable[Pair], corpus: int, split: str) -> Iterator[RawBlock]:
    """Yields the pairs of the recipe's n-th corpus in blocks of one tag each.

    Alternating tags are buffered separately, up to _BUFFER_CHARACTERS in all.
    """
    buffers: dict[str, _Buffer] = {}
    held = 0
    for index, (tag, source, english) in enumerate(pairs):
        buffer = buffers.get(tag)
        if buffer is None:
            buffer = buffers[tag] = _Buffer()
        buffer.indices.append(index)
        buffer.source.append(source)
        buffer.english.append(english)
        num_characters = len(source) + len(english)
        buffer.num_characters += num_characters
        held += num_characters
        is_full = len(buffer.indices) == BLOCK_PAIRS or buffer.num_characters >= _BLOCK_CHARACTERS
        if is_full or held >= _BUFFER_CHARACTERS:
            if not is_full:
                tag = max(buffers, key=lambda each: buffers[each].num_characters)
            held -= buffers[tag].num_characters
            yield _raw_block(tag, split, corpus, buffers.pop(tag))
    for tag, buffer in buffers.items():
        yield _raw_block(tag, split, corpus, buffer)


def _raw_block(tag: str, split: str, corpus: int, buffer: _Buffer) -> RawBlock:
    id = np.array(buffer.indices, np.int64) + (corpus << _ENTRY_SHIFT)
    return RawBlock(tag, split, id, buffer.source, buffer.english)


def write_block(
    block: RawBlock, source: list[str], english: list[str], keys: np.ndarray, folder: pathlib.Path
) -> StoredBlock:
    """Writes clean pairs, none with a line break. The block is named after its first id."""
    first_id = int(block.id[0])
    path = folder / f"{block.tag}-{block.split}-{first_id:019d}"
    text = "\n".join(source + english).encode()
    path.with_suffix(".text.zst").write_bytes(zstandard.ZstdCompressor(level=1).compress(text))
    _save(path.with_suffix(".keys.npy"), keys)
    return StoredBlock(block.tag, block.split, path, len(keys), first_id)


def read_keys(block: StoredBlock) -> np.ndarray:
    """Returns the keys of each pair, with the fields of keys.KEYS."""
    return np.load(block.path.with_suffix(".keys.npy"), allow_pickle=False)


def read_text(block: StoredBlock) -> tuple[list[str], list[str]]:
    """Returns the sources and the English texts."""
    content = block.path.with_suffix(".text.zst").read_bytes()
    lines = zstandard.ZstdDecompressor().decompress(content).decode().split("\n")
    return lines[: block.num_pairs], lines[block.num_pairs :]


def write_drops(block: StoredBlock, drop: np.ndarray) -> None:
    """Stores a number for each pair: 0, or why it is not a training pair (uint8)."""
    _save(block.path.with_suffix(".drop.npy"), drop.astype(np.uint8))


def read_drops(block: StoredBlock) -> np.ndarray:
    """Returns what `write_drops` stored."""
    return np.load(block.path.with_suffix(".drop.npy"), allow_pickle=False)


def _save(path: pathlib.Path, array: np.ndarray) -> None:
    np.save(path, array, allow_pickle=False)
