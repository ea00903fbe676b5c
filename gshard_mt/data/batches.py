"""Batches: the endless stream of training batches and one pass over a held-out split."""
# SPDX-License-Identifier: Apache-2.0

import collections
import concurrent.futures
import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gshard_mt.config.records import DataConfig
from gshard_mt.config.stages import StageConfig
from gshard_mt.data.augmentation import Augmentation, make_augmentation
from gshard_mt.data.mixture import language_pair_of
from gshard_mt.data.packing import Batch, Packing, lay_out, pack
from gshard_mt.data.permutation import permute
from gshard_mt.data.position import (
    StreamPosition,
    change_mixture,
    from_json,
    mixture_of,
    to_json,
)
from gshard_mt.data.prepared import Prepared
from gshard_mt.data.records import RecordReader, parse_records, record_id
from gshard_mt.data.stages import DataStage, begin_stage, plan_stages, stage_after
from gshard_mt.data.streams import Stream, list_streams
from gshard_mt.data.tokenizer import load_tokenizer
from gshard_mt.errors import CheckpointError, ConfigError, DataError

CHUNK_PAIRS = 4096  # packed together; more pairs cost more and fill rows no better
_BATCHES_AHEAD = 8


@dataclasses.dataclass(frozen=True)
class _Source:
    """What a host needs to read its part of every batch."""

    readers: Sequence[RecordReader | None]  # of each language pair
    streams: Sequence[Stream]
    config: DataConfig
    batch_rows: int
    rows: np.ndarray  # this host's rows of a batch, ascending
    augmentation: Augmentation | None = None
    stages: Sequence[DataStage] = ()  # of the training stream, at least one


class TrainBatches:
    """An endless stream of this host's rows; a thread prepares batches ahead until `close`."""

    def __init__(self, source: _Source):
        self._source, self._position = source, source.stages[0].beginning
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "batches")
        self._ahead: collections.deque[concurrent.futures.Future] = collections.deque()
        self._made: Iterator[tuple[Batch, StreamPosition]] | None = None
        self._is_closed = False

    def __iter__(self) -> "TrainBatches":
        return self

    def __next__(self) -> Batch:
        if self._is_closed:
            raise ValueError("the batches are closed")
        if self._made is None:
            self._made = _make_batches(self._source, self._position)
        while len(self._ahead) < _BATCHES_AHEAD:
            self._ahead.append(self._thread.submit(next, self._made))
        batch, self._position = self._ahead.popleft().result()
        return batch

    def get_state(self) -> dict[str, Any]:
        """Returns the position after the last batch returned, as JSON: the same on all hosts."""
        return to_json(self._position)

    def has_mixture_of(self, state: dict[str, Any]) -> bool:
        """Tells whether a state was saved with the data and the mixture that this stream has."""
        saved = from_json(state)
        stage = stage_after(self._source.stages, saved.step or 0)
        return stage.beginning.has_same_mixture(saved)

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues from a state of any host: the same batches follow, bit for bit.

        Raises CheckpointError if it was saved with another mixture.
        """
        if not self.has_mixture_of(state):
            raise CheckpointError("the saved position is one in other data; see `change_mixture`")
        self._go_to(from_json(state))

    def change_mixture(self, state: dict[str, Any], step: int = 0) -> dict[str, Any]:
        """Continues with this stream's mixture after a position in another; returns the new state.

        `position.change_mixture` defines where each language continues. `step` batches came before,
        which stages need to know.
        """
        new = stage_after(self._source.stages, step).beginning
        if new.step is not None:
            new = new._replace(step=step)
        self._go_to(change_mixture(from_json(state), new, self._source.config.seed))
        return self.get_state()

    def list_records(self, state: dict[str, Any]) -> list[tuple[str, int]]:
        """Returns the language pair and record `id` of each sentence pair of a batch of all hosts.

        `state` is what `get_state` returned before the batch.
        """
        position = begin_stage(self._source.stages, from_json(state), self._source.config.seed)
        mixture = mixture_of(position, self._source.config.seed)
        pairs = {stream.pair: language_pair_of(stream.name) for stream in self._source.streams}
        found: list[tuple[str, int]] = []
        num_left = self._source.batch_rows
        while num_left:
            contents, pair_of = _read(self._source, mixture.indices(position.chunk))
            packing, order = _pack_chunk(position.chunk, contents, pair_of, self._source)
            rows = order[position.row : position.row + num_left]
            for number in np.flatnonzero(np.isin(packing.row_of, rows)).tolist():
                found.append((pairs[pair_of[number]], record_id(contents[number])))
            num_left -= len(rows)
            position = position._replace(chunk=position.chunk + 1, row=0)
        return found

    def close(self) -> None:
        """Ends the thread; no more batches can be read."""
        self._is_closed = True
        self._thread.shutdown(cancel_futures=True)
        self._ahead.clear()

    def _go_to(self, position: StreamPosition) -> None:
        for future in self._ahead:
            future.cancel()
        concurrent.futures.wait(self._ahead)
        self._ahead.clear()
        self._position, self._made = position, None


def train_batches(
    prepared: Prepared,
    config: DataConfig,
    batch_rows: int,
    rows: Sequence[int] | np.ndarray | None = None,
    stages: tuple[StageConfig, ...] = (),
) -> TrainBatches:
    """Returns the training stream: the mixture's chunks, packed, their rows shuffled and batched.

    Batches may span chunks, but not stages. The stream is a function of the prepared data,
    `temperature`, `source_length`, `target_length`, `augmentation`, `seed`, `batch_rows` and
    `stages`. A host gets the given `rows` of each batch, ascending, or all: the rows of all hosts
    make up the batch that one host would get.
    """
    source = _open_source(prepared, "train", config, batch_rows, rows)
    if not any(source.readers):
        raise DataError(f"{prepared.directory}: no training pairs")
    load = functools.partial(load_tokenizer, prepared.directory)
    augmentation = make_augmentation(config, prepared.language_pairs, load)
    planned = plan_stages(prepared, config, stages, CHUNK_PAIRS)
    streams = list_streams(prepared, planned[0].has_corpora)
    return TrainBatches(
        dataclasses.replace(source, augmentation=augmentation, stages=planned, streams=streams)
    )


def split_batches(
    prepared: Prepared,
    split: str,
    config: DataConfig,
    batch_rows: int,
    rows: Sequence[int] | np.ndarray | None = None,
) -> Iterator[Batch]:
    """Yields a split once, packed; rows of padding (all 0) complete the last batch.

    Every batch mixes languages, as in training: many tokens of a single language would choose the
    same experts and exceed their capacity. A host gets the given `rows` of each batch, or all.
    """
    source = _open_source(prepared, split, config, batch_rows, rows)
    lengths = (config.source_length, config.target_length)
    sizes = [len(reader) if reader else 0 for reader in source.readers]
    num_chunks = -(-sum(sizes) // CHUNK_PAIRS)
    held: list[Batch] = []
    for chunk in range(num_chunks):
        indices = [np.arange(n * chunk // num_chunks, n * (chunk + 1) // num_chunks) for n in sizes]
        contents, pair_of = _read(source, indices)
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
    """Raises ConfigError if rows are shorter than the longest sentence may be."""
    for key in ("source_length", "target_length"):
        found, least = getattr(config, key), getattr(prepared, key)
        if found < least:
            raise ConfigError(
                f"config.data.{key}: found {found}, accepted: {least} or more, with which "
                f"{prepared.directory} was prepared"
            )


def _make_batches(
    source: _Source, position: StreamPosition
) -> Iterator[tuple[Batch, StreamPosition]]:
    """Yields this host's rows of every batch from a position on, and the position after it."""
    while True:
        position = begin_stage(source.stages, position, source.config.seed)
        step = position.step or 0
        until = stage_after(source.stages, step + 1).until
        num_left = None if until is None else until - step
        batches = itertools.islice(_read_mixture(source, position), num_left)
        for number, (batch, position) in enumerate(batches, 1):
            if position.step is not None:
                position = position._replace(step=step + number)
            yield batch, position


def _read_mixture(
    source: _Source, position: StreamPosition
) -> Iterator[tuple[Batch, StreamPosition]]:
    """Does the same for one stage, without counting steps.

    All sentences of a chunk are read, because the row of each depends on all of them; only this
    host's rows are laid out.
    """
    mixture = mixture_of(position, source.config.seed)
    parts: list[Batch] = []
    num_rows = 0  # of the unfinished batch, on all hosts
    while True:
        contents, pair_of = _read(source, mixture.indices(position.chunk))
        packing, order = _pack_chunk(position.chunk, contents, pair_of, source)
        order = order[position.row :]
        row_in_batch = (num_rows + np.arange(len(order))) % source.batch_rows
        is_ours = np.isin(row_in_batch, source.rows)
        lengths = (source.config.source_length, source.config.target_length)
        rows = lay_out(packing, order[is_ours], *lengths)
        num_ours = np.cumsum(is_ours)
        next_chunk = position._replace(chunk=position.chunk + 1, row=0)
        used = 0
        for last in np.flatnonzero(row_in_batch == source.batch_rows - 1).tolist():
            parts.append(_cut(rows, used, int(num_ours[last])))
            used = int(num_ours[last])
            is_end = last + 1 == len(order)
            yield (
                _join(parts),
                next_chunk if is_end else position._replace(row=position.row + last + 1),
            )
            parts = []
        parts.append(_cut(rows, used, None))
        num_rows = (num_rows + len(order)) % source.batch_rows
        position = next_chunk


def _open_source(
    prepared: Prepared,
    split: str,
    config: DataConfig,
    batch_rows: int,
    rows: Sequence[int] | np.ndarray | None,
) -> _Source:
    """Opens a split's files; a language without examples in it has no reader."""
    check_row_lengths(prepared, config)
    readers = [
        prepared.reader(pair, split) if prepared.num_examples[pair][split] else None
        for pair in prepared.language_pairs
    ]
    own = np.arange(batch_rows) if rows is None else np.asarray(rows)
    return _Source(readers, list_streams(prepared, has_corpora=False), config, batch_rows, own)


def _read(source: _Source, indices_of: Sequence[np.ndarray]) -> tuple[list[bytes], np.ndarray]:
    """Returns the records at some indices of each stream, and each one's language pair number."""
    contents: list[bytes] = []
    numbers = []
    for stream, indices in zip(source.streams, indices_of, strict=True):
        reader = source.readers[stream.pair]
        if reader is not None:
            # In the order on disk.
            contents += reader.read_contents(stream.first_record + np.sort(indices))
        numbers.append(len(contents))
    pairs = np.array([stream.pair for stream in source.streams], np.int32)
    return contents, np.repeat(pairs, np.diff(numbers, prepend=0))


def _pack_chunk(
    chunk: int, contents: list[bytes], pair_of: np.ndarray, source: _Source
) -> tuple[Packing, np.ndarray]:
    """Returns a chunk's rows and the order in which to return them."""
    config, columns = source.config, parse_records(contents)
    if source.augmentation:
        columns = source.augmentation.apply(columns, pair_of, chunk)
    packing = pack(columns, pair_of, config.source_length, config.target_length)
    count = np.full(packing.num_rows, packing.num_rows)
    seed = np.full(packing.num_rows, (config.seed * 1_000_003 + chunk) % (1 << 62))
    return packing, permute(np.arange(packing.num_rows), count, seed)


def _cut(rows: Batch, start: int, stop: int | None) -> Batch:
    return Batch(*(array[start:stop] for array in rows))


def _join(parts: Sequence[Batch]) -> Batch:
    return Batch(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
