"""Batches: the endless stream of training batches and the finite pass over a held-out split."""
# SPDX-License-Identifier: Apache-2.0

import atexit
import functools
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import grain
import grain.experimental
import numpy as np

from gshard_mt.config import DataConfig
from gshard_mt.data.mixture import Mixture, make_mixture
from gshard_mt.data.packing import Batch, pack
from gshard_mt.data.prepared import Prepared
from gshard_mt.data.records import RecordReader
from gshard_mt.errors import ConfigError, DataError

CHUNK_PAIRS = 4096  # packed together; more fill rows no better and cost more
_PREFETCH_BATCHES = 8


class TrainBatches:
    """Batches without end; a thread makes them ahead until `close`."""

    def __init__(self, iterator: grain.DatasetIterator):
        self._iterator: Any = iterator
        # A thread still reading when the interpreter goes would take the process down (SIGABRT).
        atexit.register(self.close)

    def __iter__(self) -> "TrainBatches":
        return self

    def __next__(self) -> Batch:
        return next(self._iterator)

    def get_state(self) -> dict[str, Any]:
        """Returns the place after the last batch given out: a few numbers, fit for JSON."""
        return self._iterator.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes to a place that `get_state` gave: the same batches follow, bit for bit."""
        self._iterator.set_state(state)

    def close(self) -> None:
        """Ends the thread; no batch can be read any more."""
        atexit.unregister(self.close)
        self._iterator.close()
        # Grain closes again when it is collected, which can't wait for the interpreter's end.
        self._iterator = _Closed()


class _Closed:
    def __next__(self) -> Batch:
        raise ValueError("these batches are closed")

    def close(self) -> None:
        pass


def train_batches(prepared: Prepared, config: DataConfig, batch_rows: int) -> TrainBatches:
    """Returns the training stream: the mixture's chunks, packed, their rows shuffled, in batches.

    Batches run across chunks; a thread prepares them ahead. The stream is a function of the
    prepared data, `temperature`, `source_length`, `target_length` and `seed`.
    """
    check_row_lengths(prepared, config)
    counts = [prepared.num_pairs[pair]["train"] for pair in prepared.pairs]
    if not any(counts):
        raise DataError(f"{prepared.directory}: no training pairs")
    readers = [
        prepared.reader(pair, "train") if count else None
        for pair, count in zip(prepared.pairs, counts, strict=True)
    ]
    mixture = make_mixture(counts, config.temperature, CHUNK_PAIRS, config.seed)
    chunks = grain.MapDataset.range(sys.maxsize).map(
        functools.partial(_pack_chunk, mixture=mixture, readers=readers, config=config)
    )
    one_thread = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    rows = grain.experimental.FlatMapIterDataset(
        chunks.to_iter_dataset(read_options=one_thread), _SplitRows()
    )
    batches = rows.batch(batch_rows, drop_remainder=True, batch_fn=_stack)
    prefetched = grain.experimental.ThreadPrefetchIterDataset(
        batches, prefetch_buffer_size=_PREFETCH_BATCHES
    )
    return TrainBatches(iter(prefetched))


def split_batches(
    prepared: Prepared, pair: str, split: str, config: DataConfig, batch_rows: int
) -> Iterator[Batch]:
    """Yields one pair's split once, packed; rows of padding (all 0) fill the last batch up."""
    check_row_lengths(prepared, config)
    if not prepared.num_pairs[pair][split]:
        return
    reader = prepared.reader(pair, split)
    held: list[Batch] = []
    for start in range(0, len(reader), CHUNK_PAIRS):
        records = reader.read(range(start, min(start + CHUNK_PAIRS, len(reader))))
        numbers = [prepared.pairs.index(pair)] * len(records)
        rows = pack(records, numbers, config.source_length, config.target_length)
        held += _SplitRows().flat_map(rows)
        while len(held) >= batch_rows:
            yield _stack(held[:batch_rows])
            held = held[batch_rows:]
    if held:
        padding = Batch(*(np.zeros_like(array) for array in held[0]))
        yield _stack(held + [padding] * (batch_rows - len(held)))


def check_row_lengths(prepared: Prepared, config: DataConfig) -> None:
    """Raises ConfigError where the rows are shorter than the longest sentence may be."""
    for key in ("source_length", "target_length"):
        found, least = getattr(config, key), getattr(prepared, key)
        if found < least:
            raise ConfigError(
                f"data.{key} is {found}, {prepared.directory} was prepared with {least}; "
                f"accepted: {least} or more"
            )


def _pack_chunk(
    chunk: int, mixture: Mixture, readers: Sequence[RecordReader | None], config: DataConfig
) -> Batch:
    records, pairs = [], []
    for pair, reader in enumerate(readers):
        if reader is not None:
            records += reader.read(mixture.indices(pair, chunk))
            pairs += [pair] * (len(records) - len(pairs))
    rows = pack(records, pairs, config.source_length, config.target_length)
    order = np.random.default_rng([config.seed, chunk]).permutation(len(rows.source_BL))
    return Batch(*(array[order] for array in rows))


class _SplitRows(grain.experimental.FlatMapTransform):
    """A packed chunk becomes its rows."""

    max_fan_out = sys.maxsize

    def flat_map(self, element: Batch) -> list[Batch]:
        return [Batch(*arrays) for arrays in zip(*element, strict=True)]


def _stack(rows: Sequence[Batch]) -> Batch:
    return Batch(*(np.stack(arrays) for arrays in zip(*rows, strict=True)))
