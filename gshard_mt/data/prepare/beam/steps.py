"""Beam steps: functions that read, clean and select one block or one language at a time.

Each takes one element, then side inputs, and yields elements. A runner may run a step again: the
same input yields the same output, and files get a new name each time.
"""
# SPDX-License-Identifier: Apache-2.0

import pathlib
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from gshard_mt.data.corpora.entry import Entry
from gshard_mt.data.prepare.blocks import (
    RawBlock,
    StoredBlock,
    read_blocks,
    read_keys,
    read_pairs,
)
from gshard_mt.data.prepare.clean_rows import clean_block
from gshard_mt.data.prepare.dedup import deal, find_duplicates, part_bits
from gshard_mt.data.prepare.drops import DropKey, Drops, Tally
from gshard_mt.data.prepare.held_out import Candidates, Keys, candidates
from gshard_mt.data.prepare.job import Job
from gshard_mt.data.prepare.keys import KeyedPairs, Split
from gshard_mt.data.prepare.samples import (
    Calibrations,
    CorpusTag,
    StoredCalibration,
    StoredSample,
    calibrate_sample,
    draw_samples,
    needs_samples,
)
from gshard_mt.data.prepare.selection import (
    HeldOutChoice,
    count_drops,
    forgive_duplicates,
    join_pairs,
    mark_held_out,
    pick_pairs,
)


class CleanedBlock(NamedTuple):
    """A block after cleaning; `block` is None if nothing is left."""

    tag: str
    first_id: int
    block: StoredBlock | None
    drops: Drops


class MarkedBlock(NamedTuple):
    """A training block with the numbers for blocks.write_drops."""

    language: str
    block: StoredBlock
    drop: np.ndarray


def read(element: tuple[int, Entry]) -> Iterator[RawBlock]:
    number, entry = element
    yield from read_blocks(entry, number)


def sample(element: tuple[int, Entry], job: Job) -> Iterator[StoredSample]:
    number, entry = element
    if needs_samples(entry, job.config.cleaning):
        yield from draw_samples(entry, number, new_folder(job.work))


def calibrate(
    sample: StoredSample, samples: Iterable[StoredSample], job: Job
) -> Iterator[tuple[CorpusTag, StoredCalibration]]:
    yield (
        (sample.corpus, sample.tag),
        calibrate_sample(sample, list(samples), job.cleaning(sample.corpus, sample.tag)),
    )


def clean(raw: RawBlock, calibrations: Calibrations, job: Job) -> Iterator[CleanedBlock]:
    stored = calibrations.get((raw.corpus, raw.tag))
    cleaning = job.cleaning(raw.corpus, raw.tag)
    _, block, drops = clean_block(raw, cleaning, new_folder(job.work), stored, job.trained)
    yield CleanedBlock(raw.tag, int(raw.id[0]), block, drops)


def count_cleaned(cleaned: CleanedBlock) -> Iterator[tuple[DropKey, Tally]]:
    yield from cleaned.drops.tallies.items()


def name_blocks(
    cleaned: CleanedBlock, languages: Mapping[str, str]
) -> Iterator[tuple[str, StoredBlock]]:
    if cleaned.block:
        yield languages[cleaned.tag], cleaned.block


def deal_rows(
    element: tuple[str, StoredBlock], sizes: Mapping[str, int]
) -> Iterator[tuple[tuple[str, int], tuple[int, np.ndarray]]]:
    """Yields (language, part), (block, rows): pairs that may be equal are in the same part."""
    language, block = element
    for part, rows in deal(read_keys(block), 0, part_bits(sizes[language])):
        yield (language, part), (block.first_id, rows)


def find_in_part(
    element: tuple[tuple[str, int], Iterable[tuple[int, np.ndarray]]], job: Job
) -> Iterator[tuple[tuple[str, int], tuple[np.ndarray, np.ndarray]]]:
    """Yields (language, block), (rows, their numbers) of duplicates."""
    (language, _), groups = element
    groups = list(groups)
    found = find_duplicates(np.concatenate([rows for _, rows in groups]))
    found = forgive_duplicates(found, job.config.cleaning)
    start = 0
    for first_id, rows in groups:
        part = found[start : start + len(rows)]
        start += len(rows)
        if part.any():
            yield (language, first_id), (rows["row"][part > 0], part[part > 0])


def mark_duplicates(
    element: tuple[tuple[str, int], Mapping[str, Iterable[Any]]],
) -> Iterator[MarkedBlock]:
    (language, _), parts = element
    (block,) = parts["block"]
    drop = np.zeros(block.num_pairs, np.uint8)
    for rows, numbers in parts["duplicates"]:
        drop[rows] = numbers
    yield MarkedBlock(language, block, drop)


def find_candidates(marked: MarkedBlock, job: Job) -> Iterator[tuple[str, Candidates]]:
    keys = read_keys(marked.block)
    yield marked.language, candidates(keys[marked.drop == 0], job.config.seed)


def read_given(element: tuple[Split, Iterable[StoredBlock]]) -> Iterator[tuple[Split, KeyedPairs]]:
    key, blocks = element
    blocks = sorted(blocks, key=lambda block: block.first_id)
    yield key, join_pairs(map(read_pairs, blocks))


def pick(
    marked: MarkedBlock, chosen: HeldOutChoice, job: Job
) -> Iterator[tuple[Split, KeyedPairs]]:
    for split in chosen.wanted[marked.language]:
        pairs = pick_pairs(marked.block, marked.drop, chosen.keys[split], job.config.seed)
        if pairs.source:
            yield (marked.language, split), pairs


def take_wanted(
    element: tuple[Split, KeyedPairs], chosen: HeldOutChoice
) -> Iterator[tuple[Split, KeyedPairs]]:
    (language, split), pairs = element
    yield (language, split), pairs.take(chosen.wanted[language][split])


def drop_overlap(marked: MarkedBlock, held_out: tuple[Keys, np.ndarray]) -> Iterator[MarkedBlock]:
    drop = mark_held_out(read_keys(marked.block), marked.drop, *held_out)
    yield marked._replace(drop=drop)


def count_selected(marked: MarkedBlock) -> Iterator[tuple[DropKey, Tally]]:
    drops = Drops()
    count_drops(marked.language, marked.block, marked.drop, drops)
    yield from drops.tallies.items()


def new_folder(work: pathlib.Path) -> pathlib.Path:
    """Makes a folder for the output of one attempt at a step."""
    folder = work / uuid.uuid4().hex
    folder.mkdir()
    return folder
