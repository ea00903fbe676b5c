"""Batches: the endless stream of training batches and the finite pass over a held-out split."""
# SPDX-License-Identifier: Apache-2.0

import collections
import concurrent.futures
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gshard_mt.config.records import DataConfig
from gshard_mt.data.packing import Batch, Packing, lay_out, pack
from gshard_mt.data.permutation import permute
from gshard_mt.data.position import (
    StreamPosition,
    change_mixture,
    first_position,
    from_json,
    mixture_of,
    to_json,
)
from gshard_mt.data.prepared import Prepared
from gshard_mt.data.records import RecordReader, parse_records, record_id
from gshard_mt.errors import CheckpointError, ConfigError, DataError

CHUNK_PAIRS = 4096  # packed together; more fill rows no better and cost more
_BATCHES_AHEAD = 8


@dataclass(frozen=True)
class _Source:
    """What a host reads its part of every batch from."""

    readers: Sequence[RecordReader | None]
    config: DataConfig
    batch_rows: int
    rows: np.ndarray  # of a batch, this host's, ascending


class TrainBatches:
    """Batches without end, of this host's rows; a thread makes them ahead until `close`."""

    def __init__(self, source: _Source, place: StreamPosition):
        self._source, self._place = source, place
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "batches")
        self._ahead: collections.deque[concurrent.futures.Future] = collections.deque()
        self._made: Iterator[tuple[Batch, StreamPosition]] | None = None
        self._is_closed = False

    def __iter__(self) -> "TrainBatches":
        return self

    def __next__(self) -> Batch:
        if self._is_closed:
            raise ValueError("these batches are closed")
        if self._made is None:
            self._made = _make_batches(self._source, self._place)
        while len(self._ahead) < _BATCHES_AHEAD:
            self._ahead.append(self._thread.submit(next, self._made))
        batch, self._place = self._ahead.popleft().result()
        return batch

    def get_state(self) -> dict[str, Any]:
        """Returns the place after the last batch given out, fit for JSON: the same on all hosts."""
        return to_json(self._place)

    def has_mixture_of(self, state: dict[str, Any]) -> bool:
        """Says whether a state was saved with the data and the temperature of this stream."""
        return self._place.has_same_mixture(from_json(state))

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes to a place that `get_state` gave on any host: the same batches follow, bit for bit.

        Raises CheckpointError where it is one of another mixture.
        """
        if not self.has_mixture_of(state):
            raise CheckpointError("the place saved is one in other data; see `change_mixture`")
        self._go_to(from_json(state))

    def change_mixture(self, state: dict[str, Any]) -> dict[str, Any]:
        """Goes on with this stream's mixture after a place in another one; returns the new state.

        `place.change_mixture` says where each language goes on.
        """
        self._go_to(change_mixture(from_json(state), self._place, self._source.config.seed))
        return self.get_state()

    def list_records(self, state: dict[str, Any]) -> list[tuple[str, int]]:
        """Returns the language pair and the record's `id` of every sentence of a batch, all hosts'.

        `state` is what `get_state` gave before the batch.
        """
        place = from_json(state)
        mixture, pairs = mixture_of(place, self._source.config.seed), list(place.pairs)
        found: list[tuple[str, int]] = []
        num_left = self._source.batch_rows
        while num_left:
            contents, pair_of = _read(self._source.readers, mixture.indices(place.chunk))
            packing, order = _pack_chunk(place.chunk, contents, pair_of, self._source)
            rows = order[place.row : place.row + num_left]
            for number in np.flatnonzero(np.isin(packing.row_of, rows)).tolist():
                found.append((pairs[pair_of[number]], record_id(contents[number])))
            num_left -= len(rows)
            place = place._replace(chunk=place.chunk + 1, row=0)
        return found

    def close(self) -> None:
        """Ends the thread; no batch can be read any more."""
        self._is_closed = True
        self._thread.shutdown(cancel_futures=True)
        self._ahead.clear()

    def _go_to(self, place: StreamPosition) -> None:
        for future in self._ahead:
            future.cancel()
        concurrent.futures.wait(self._ahead)
        self._ahead.clear()
        self._place, self._made = place, None


def train_batches(
    prepared: Prepared,
    config: DataConfig,
    batch_rows: int,
    rows: Sequence[int] | np.ndarray | None = None,
) -> TrainBatches:
    """Returns the training stream: the mixture's chunks, packed, their rows shuffled, in batches.

    Batches run across chunks; a thread prepares them ahead. The stream is a function of the
    prepared data, `temperature`, `source_length`, `target_length`, `seed` and `batch_rows`. Of
    each batch, a host gets the `rows` it asks for, ascending, by default all: those of all hosts
    together are the batch that one host would get.
    """
    source = _open_source(prepared, "train", config, batch_rows, rows)
    if not any(source.readers):
        raise DataError(f"{prepared.directory}: no training pairs")
    return TrainBatches(source, first_position(prepared, config, CHUNK_PAIRS))


def split_batches(
    prepared: Prepared,
    split: str,
    config: DataConfig,
    batch_rows: int,
    rows: Sequence[int] | np.ndarray | None = None,
) -> Iterator[Batch]:
    """Yields a split once, packed; rows of padding (all 0) fill the last batch up.

    Its languages are mixed from the first batch to the last, as in training: of one language alone,
    many tokens would want the same experts and find no room. Of each batch, a host gets the `rows`
    it asks for, by default all.
    """
    source = _open_source(prepared, split, config, batch_rows, rows)
    lengths = (config.source_length, config.target_length)
    sizes = [len(reader) if reader else 0 for reader in source.readers]
    num_chunks = -(-sum(sizes) // CHUNK_PAIRS)
    held: list[Batch] = []
    for chunk in range(num_chunks):
        indices = [np.arange(n * chunk // num_chunks, n * (chunk + 1) // num_chunks) for n in sizes]
        contents, pair_of = _read(source.readers, indices)
        packing, order = _pack_chunk(chunk, contents, pair_of, source)
        packed = _join([*held, lay_out(packing, order, *lengths)])
        num_full = len(packed.source_BL) // batch_rows * batch_rows
        for first in range(0, num_full, batch_rows):
            yield Batch(*(array[first + source.rows] for array in packed))
        held = [_cut(packed, num_full, None)]
    num_missing = -len(held[0].source_BL) % batch_rows if held else 0
    if num_missing:
        padding = [(0, num_missing), (0, 0)]
        yield Batch(*(np.pad(array, padding)[source.rows] for array in held[0]))


def check_row_lengths(prepared: Prepared, config: DataConfig) -> None:
    """Raises ConfigError where the rows are shorter than the longest sentence may be."""
    for key in ("source_length", "target_length"):
        found, least = getattr(config, key), getattr(prepared, key)
        if found < least:
            raise ConfigError(
                f"data.{key} is {found}, {prepared.directory} was prepared with {least}; "
                f"accepted: {least} or more"
            )


def _make_batches(source: _Source, place: StreamPosition) -> Iterator[tuple[Batch, StreamPosition]]:
    """Yields this host's rows of every batch from a place on, and the place behind the batch.

    All sentences of a chunk are read, because which row a sentence is in depends on all of them;
    only this host's rows are laid out.
    """
    mixture = mixture_of(place, source.config.seed)
    parts: list[Batch] = []
    num_rows = 0  # of the batch under way, on all hosts
    while True:
        contents, pair_of = _read(source.readers, mixture.indices(place.chunk))
        packing, order = _pack_chunk(place.chunk, contents, pair_of, source)
        order = order[place.row :]
        row_in_batch = (num_rows + np.arange(len(order))) % source.batch_rows
        is_ours = np.isin(row_in_batch, source.rows)
        lengths = (source.config.source_length, source.config.target_length)
        rows = lay_out(packing, order[is_ours], *lengths)
        num_ours = np.cumsum(is_ours)
        next_chunk = place._replace(chunk=place.chunk + 1, row=0)
        used = 0
        for last in np.flatnonzero(row_in_batch == source.batch_rows - 1).tolist():
            parts.append(_cut(rows, used, int(num_ours[last])))
            used = int(num_ours[last])
            is_end = last + 1 == len(order)
            yield _join(parts), next_chunk if is_end else place._replace(row=place.row + last + 1)
            parts = []
        parts.append(_cut(rows, used, None))
        num_rows = (num_rows + len(order)) % source.batch_rows
        place = next_chunk


def _open_source(
    prepared: Prepared,
    split: str,
    config: DataConfig,
    batch_rows: int,
    rows: Sequence[int] | np.ndarray | None,
) -> _Source:
    """Opens a split's files; a language that has none there has no reader."""
    check_row_lengths(prepared, config)
    readers = [
        prepared.reader(pair, split) if prepared.num_examples[pair][split] else None
        for pair in prepared.language_pairs
    ]
    own = np.arange(batch_rows) if rows is None else np.asarray(rows)
    return _Source(readers, config, batch_rows, own)


def _read(
    readers: Sequence[RecordReader | None], indices_of: Sequence[np.ndarray]
) -> tuple[list[bytes], np.ndarray]:
    """Returns the records at some indices of each reader, and the number of each one's pair."""
    contents: list[bytes] = []
    numbers = []
    for reader, indices in zip(readers, indices_of, strict=True):
        if reader is not None:
            contents += reader.read_contents(np.sort(indices))  # as they lie on the disk
        numbers.append(len(contents))
    return contents, np.repeat(np.arange(len(numbers), dtype=np.int32), np.diff(numbers, prepend=0))


def _pack_chunk(
    chunk: int, contents: list[bytes], pair_of: np.ndarray, source: _Source
) -> tuple[Packing, np.ndarray]:
    """Returns a chunk's rows and the order in which they are given out."""
    config = source.config
    packing = pack(parse_records(contents), pair_of, config.source_length, config.target_length)
    count = np.full(packing.num_rows, packing.num_rows)
    seed = np.full(packing.num_rows, (config.seed * 1_000_003 + chunk) % (1 << 62))
    return packing, permute(np.arange(packing.num_rows), count, seed)


def _cut(rows: Batch, start: int, stop: int | None) -> Batch:
    return Batch(*(array[start:stop] for array in rows))


def _join(parts: Sequence[Batch]) -> Batch:
    return Batch(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
