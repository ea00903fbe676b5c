"""Beam output: steps, like those of `steps`, that train the subwords and write shards."""
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from gshard_mt.data.prepare.beam.steps import MarkedBlock, new_folder
from gshard_mt.data.prepare.blocks import read_text
from gshard_mt.data.prepare.job import Job
from gshard_mt.data.prepare.keys import ENTRY_SHIFT, KeyedPairs, Split
from gshard_mt.data.prepare.selection import mark_surplus, read_kept
from gshard_mt.data.prepare.shards import SHARD_BLOCKS, Shard, cached_tokenizer, write_pairs
from gshard_mt.data.prepare.subwords import sample_rows, train_models
from gshard_mt.data.tokenizer import load_tokenizer


class BlockSample(NamedTuple):
    """The sentences of one block that the subwords are trained on."""

    language: str
    first_id: int
    source: list[str]
    english: list[str]


class Layout(NamedTuple):
    """A language's training blocks, ordered by their ids."""

    first_ids: np.ndarray
    starts: np.ndarray  # number of kept pairs before each block
    num_pairs: int  # kept in all blocks


def count_kept(marked: MarkedBlock) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yields language, (first id of the block, number of its kept pairs)."""
    yield marked.language, (marked.block.first_id, int(np.sum(marked.drop == 0)))


def lay_out(element: tuple[str, Iterable[tuple[int, int]]]) -> Iterator[tuple[str, Layout]]:
    language, blocks = element
    first_ids, kept = np.array(sorted(blocks), np.int64).T
    yield language, Layout(first_ids, np.cumsum(kept) - kept, int(kept.sum()))


def drop_surplus(
    marked: MarkedBlock, layouts: Mapping[str, Layout], most: Mapping[int, int]
) -> Iterator[MarkedBlock]:
    """Marks what is over `max_pairs`; the layouts are those before that."""
    corpus, layout = marked.block.corpus, layouts[marked.language]
    if corpus in most:
        starts = np.append(layout.starts, layout.num_pairs)
        corpora = layout.first_ids >> ENTRY_SHIFT
        first, stop = np.searchsorted(corpora, [corpus, corpus + 1])
        num_before = int(starts[_number(marked, layout)] - starts[first])
        num_kept = int(starts[stop] - starts[first])
        marked = marked._replace(drop=mark_surplus(marked.drop, num_before, num_kept, most[corpus]))
    yield marked


def sample_text(
    marked: MarkedBlock, layouts: Mapping[str, Layout], sizes: Mapping[str, int]
) -> Iterator[tuple[None, BlockSample]]:
    """Yields everything under one key, so that one worker trains."""
    layout = layouts[marked.language]
    start = int(layout.starts[_number(marked, layout)])
    kept = np.flatnonzero(marked.drop == 0)
    rows = kept[sample_rows(start, len(kept), layout.num_pairs, sizes[marked.language])]
    if len(rows):
        source, english = read_text(marked.block)
        texts = [source[i] for i in rows], [english[i] for i in rows]
        yield None, BlockSample(marked.language, marked.block.first_id, *texts)


def train(element: tuple[None, Iterable[BlockSample]], job: Job) -> Iterator[str]:
    """Trains the subwords and yields the tokenizer's hash."""
    samples = sorted(element[1], key=lambda each: (each.language, each.first_id))
    train_models(
        lambda side: (line for each in samples for line in (each.source, each.english)[side]),
        job.config,
        job.data_dir,
    )
    yield load_tokenizer(job.data_dir).hash


def deal_shards(
    marked: MarkedBlock, layouts: Mapping[str, Layout]
) -> Iterator[tuple[tuple[str, int], MarkedBlock]]:
    number = _number(marked, layouts[marked.language])
    yield (marked.language, number // SHARD_BLOCKS), marked


def write_train(
    element: tuple[tuple[str, int], Iterable[MarkedBlock]], tokenizer_hash: str, job: Job
) -> Iterator[tuple[Split, int, Shard]]:
    (language, number), blocks = element
    blocks = sorted(blocks, key=lambda marked: marked.block.first_id)
    parts = (read_kept(marked.block, marked.drop) for marked in blocks)
    key = (language, "train")
    yield key, number, _write(key, parts, tokenizer_hash, job)


def write_held_out(
    element: tuple[Split, KeyedPairs], tokenizer_hash: str, job: Job
) -> Iterator[tuple[Split, int, Shard]]:
    key, pairs = element
    yield key, 0, _write(key, [pairs], tokenizer_hash, job)


def _write(key: Split, parts: Iterable[KeyedPairs], tokenizer_hash: str, job: Job) -> Shard:
    tokenizer = cached_tokenizer(job.data_dir, tokenizer_hash)
    return write_pairs(parts, key, new_folder(job.work) / "shard", tokenizer, job.config)


def _number(marked: MarkedBlock, layout: Layout) -> int:
    return int(np.searchsorted(layout.first_ids, marked.block.first_id))
