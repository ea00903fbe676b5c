"""Blocks: a few thousand pairs of one language each, stored on disk once they are clean.

Files are written whole: a worker that comes back after its task was given to another one replaces
them by the same bytes.
"""
# SPDX-License-Identifier: Apache-2.0

import io
import pathlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import zstandard

from gshard_mt.data.corpora.entry import Entry, Pair
from gshard_mt.data.corpora.readers import SCHEMES
from gshard_mt.data.prepare.keys import ENTRY_SHIFT, KeyedPairs
from gshard_mt.documents import draft_of
from gshard_mt.languages import plain_tag

BLOCK_PAIRS = 8192
_BLOCK_CHARACTERS = 1 << 23  # limits a block of very long lines
_BUFFER_CHARACTERS = 1 << 26  # limits all languages that are read at once


class RawBlock(NamedTuple):
    """Pairs as read, of one language tag in one corpus of the recipe."""

    tag: str  # plain
    split: str
    id: np.ndarray  # int64, increasing
    source: list[str]
    english: list[str]

    @property
    def corpus(self) -> int:
        """The number of the corpus in the recipe."""
        return int(self.id[0]) >> ENTRY_SHIFT


class StoredBlock(NamedTuple):
    """A clean block on disk: `path` with .keys.npy, .text.zst, later .repeat.npy, .drop.npy."""

    tag: str
    split: str
    path: pathlib.Path
    num_pairs: int
    first_id: int

    @property
    def corpus(self) -> int:
        """The number of the corpus in the recipe."""
        return self.first_id >> ENTRY_SHIFT


def read_blocks(entry: Entry, corpus: int) -> Iterator[RawBlock]:
    """Yields the blocks of the recipe's n-th corpus. Raises DataError if it is empty."""
    return cut_blocks(SCHEMES[entry.scheme].read(entry), corpus, entry.split)


def cut_blocks(pairs: Iterable[Pair], corpus: int, split: str) -> Iterator[RawBlock]:
    """Yields the pairs of the recipe's n-th corpus in blocks of one tag each.

    Alternating tags are buffered separately, up to _BUFFER_CHARACTERS in all.
    """

    def raw_block(tag: str) -> RawBlock:
        rows = buffers.pop(tag)
        id = np.array([index for index, _ in rows], np.int64) + (corpus << ENTRY_SHIFT)
        source, english = [pair.source for _, pair in rows], [pair.english for _, pair in rows]
        return RawBlock(tag, split, id, source, english)

    buffers: dict[str, list[tuple[int, Pair]]] = defaultdict(list)
    num_characters: Counter[str] = Counter()
    held = 0
    for index, pair in enumerate(pairs):
        tag = plain_tag(pair.language)
        buffers[tag].append((index, pair))
        size = len(pair.source) + len(pair.english)
        num_characters[tag] += size
        held += size
        is_full = len(buffers[tag]) == BLOCK_PAIRS or num_characters[tag] >= _BLOCK_CHARACTERS
        if is_full or held >= _BUFFER_CHARACTERS:
            if not is_full:
                ((tag, _),) = num_characters.most_common(1)
            held -= num_characters.pop(tag)
            yield raw_block(tag)
    for tag in list(buffers):
        yield raw_block(tag)


def write_block(
    block: RawBlock, source: list[str], english: list[str], keys: np.ndarray, folder: pathlib.Path
) -> StoredBlock:
    """Writes clean pairs, none with a line break. The block is named after its first id."""
    first_id = int(block.id[0])
    path = folder / f"{block.tag}-{block.split}-{first_id:019d}"
    text = "\n".join(source + english).encode()
    write_file(path.with_suffix(".text.zst"), zstandard.ZstdCompressor(level=1).compress(text))
    write_array(path.with_suffix(".keys.npy"), keys)
    return StoredBlock(block.tag, block.split, path, len(keys), first_id)


def read_keys(block: StoredBlock) -> np.ndarray:
    """Returns the keys of each pair, with the fields of keys.KEYS."""
    return _read_array(block.path.with_suffix(".keys.npy"))


def read_text(block: StoredBlock) -> tuple[list[str], list[str]]:
    """Returns the sources and the English texts."""
    content = block.path.with_suffix(".text.zst").read_bytes()
    lines = zstandard.ZstdDecompressor().decompress(content).decode().split("\n")
    return lines[: block.num_pairs], lines[block.num_pairs :]


def read_pairs(block: StoredBlock) -> KeyedPairs:
    """Returns the pairs and their keys."""
    return KeyedPairs(*read_text(block), read_keys(block))


def write_repeats(block: StoredBlock, drop: np.ndarray) -> None:
    """Stores a number for each pair: 0, or that the pair is a repeated one (uint8)."""
    write_array(block.path.with_suffix(".repeat.npy"), drop)


def read_repeats(block: StoredBlock) -> np.ndarray:
    """Returns what `write_repeats` stored."""
    return _read_array(block.path.with_suffix(".repeat.npy"))


def write_drops(block: StoredBlock, drop: np.ndarray) -> None:
    """Stores a number for each pair: 0, or why it is not a training pair (uint8)."""
    write_array(block.path.with_suffix(".drop.npy"), drop)


def read_drops(block: StoredBlock) -> np.ndarray:
    """Returns what `write_drops` stored."""
    return _read_array(block.path.with_suffix(".drop.npy"))


def write_file(path: pathlib.Path, content: bytes) -> None:
    """Writes a file, whole or not at all."""
    with draft_of(path) as draft:
        draft.write_bytes(content)


def write_array(path: pathlib.Path, array: np.ndarray) -> None:
    """Writes an array in NumPy's format, whole or not at all."""
    content = io.BytesIO()  # where the disk is full, NumPy's own error has no number
    np.save(content, array, allow_pickle=False)
    write_file(path, content.getvalue())


def _read_array(path: pathlib.Path) -> np.ndarray:
    return np.load(path, allow_pickle=False)
