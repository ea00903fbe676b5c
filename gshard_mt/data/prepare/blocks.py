"""Blocks: some thousand pairs of one language, cut from what is read, kept on disk when clean."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import zstandard

from gshard_mt.data.corpora.entry import Entry, Pair
from gshard_mt.data.corpora.readers import SCHEMES

BLOCK_PAIRS = 8192
_BLOCK_CHARACTERS = 1 << 23  # a block of very long lines is full before
_BUFFER_CHARACTERS = 1 << 26  # of all languages that are read side by side
_ENTRY_SHIFT = 40  # an id is the number of the recipe's corpus and the place of the pair in it


class RawBlock(NamedTuple):
    """Pairs as read, of one language tag of one corpus of the recipe."""

    tag: str
    split: str
    id: np.ndarray  # int64, increasing
    source: list[str]
    english: list[str]


class StoredBlock(NamedTuple):
    """Where a clean block lies: `path` with .keys.npy and .text.zst, later .drop.npy."""

    tag: str
    split: str
    path: pathlib.Path
    num_pairs: int
    first_id: int


class _Buffer:
    def __init__(self) -> None:
        self.places: list[int] = []
        self.source: list[str] = []
        self.english: list[str] = []
        self.num_characters = 0


def read_blocks(entry: Entry, corpus: int) -> Iterator[RawBlock]:
    """Yields all of the recipe's n-th corpus. Raises DataError where nothing is in it."""
    return cut_blocks(SCHEMES[entry.scheme].read(entry), corpus, entry.split)


def cut_blocks(pairs: Iterable[Pair], corpus: int, split: str) -> Iterator[RawBlock]:
    """Yields what is read of the recipe's n-th corpus in blocks of one tag each.

    Tags that alternate are held side by side, together no more than _BUFFER_CHARACTERS.
    """
    buffers: dict[str, _Buffer] = {}
    held = 0
    for place, (tag, source, english) in enumerate(pairs):
        buffer = buffers.get(tag)
        if buffer is None:
            buffer = buffers[tag] = _Buffer()
        buffer.places.append(place)
        buffer.source.append(source)
        buffer.english.append(english)
        num_characters = len(source) + len(english)
        buffer.num_characters += num_characters
        held += num_characters
        is_full = len(buffer.places) == BLOCK_PAIRS or buffer.num_characters >= _BLOCK_CHARACTERS
        if is_full or held >= _BUFFER_CHARACTERS:
            if not is_full:
                tag = max(buffers, key=lambda each: buffers[each].num_characters)
            held -= buffers[tag].num_characters
            yield _raw_block(tag, split, corpus, buffers.pop(tag))
    for tag, buffer in buffers.items():
        yield _raw_block(tag, split, corpus, buffer)


def _raw_block(tag: str, split: str, corpus: int, buffer: _Buffer) -> RawBlock:
    id = np.array(buffer.places, np.int64) + (corpus << _ENTRY_SHIFT)
    return RawBlock(tag, split, id, buffer.source, buffer.english)


def write_block(
    block: RawBlock, source: list[str], english: list[str], keys: np.ndarray, folder: pathlib.Path
) -> StoredBlock:
    """Writes clean pairs; no text has a line break in it. The block is named by its first id."""
    first_id = int(block.id[0])
    path = folder / f"{block.tag}-{block.split}-{first_id:019d}"
    text = "\n".join(source + english).encode()
    path.with_suffix(".text.zst").write_bytes(zstandard.ZstdCompressor(level=1).compress(text))
    _save(path.with_suffix(".keys.npy"), keys)
    return StoredBlock(block.tag, block.split, path, len(keys), first_id)


def read_keys(block: StoredBlock) -> np.ndarray:
    """Returns the keys.KEYS of each pair."""
    return np.load(block.path.with_suffix(".keys.npy"), allow_pickle=False)


def read_text(block: StoredBlock) -> tuple[list[str], list[str]]:
    """Returns the sources and the English texts."""
    content = block.path.with_suffix(".text.zst").read_bytes()
    lines = zstandard.ZstdDecompressor().decompress(content).decode().split("\n")
    return lines[: block.num_pairs], lines[block.num_pairs :]


def write_drops(block: StoredBlock, drop: np.ndarray) -> None:
    """Keeps a number for each pair: 0, or why it is no training pair (uint8)."""
    _save(block.path.with_suffix(".drop.npy"), drop.astype(np.uint8))


def read_drops(block: StoredBlock) -> np.ndarray:
    """Returns what `write_drops` kept."""
    return np.load(block.path.with_suffix(".drop.npy"), allow_pickle=False)


def _save(path: pathlib.Path, array: np.ndarray) -> None:
    np.save(path, array, allow_pickle=False)
