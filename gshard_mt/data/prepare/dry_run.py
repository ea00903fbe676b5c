"""Dry run: what cleaning would drop from a sample of every corpus, with lines to read."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
import tempfile
from collections.abc import Iterator

import numpy as np

from gshard_mt.config.records import DataConfig
from gshard_mt.data.corpora.recipe import Recipe
from gshard_mt.data.prepare.blocks import RawBlock
from gshard_mt.data.prepare.clean_rows import clean_rows
from gshard_mt.data.prepare.drops import READ, Tally
from gshard_mt.data.prepare.job import Job
from gshard_mt.data.prepare.samples import (
    StoredSample,
    calibrate_sample,
    draw,
    lines_of,
    load_calibration,
    needs_samples,
    write_sample,
)

_SAMPLE_CHARACTERS = 100  # printed of a side


def dry_run(config: DataConfig, recipe: Recipe) -> Iterator[str]:
    """Yields lines about each language of each corpus; nothing is written.

    Duplicates, held-out text and lengths in subwords are not counted: a sample can't tell.
    """
    with tempfile.TemporaryDirectory(prefix="gshard-dry-run-") as name:
        job = Job(config, recipe, pathlib.Path(name), np.zeros(0, np.uint64))
        drawn: list[tuple[RawBlock, StoredSample | None]] = []
        for number, entry in enumerate(recipe.entries):
            is_measured = needs_samples(entry, config.cleaning)
            for raw in draw(entry, number):
                sample = write_sample(raw, pathlib.Path(name)) if is_measured else None
                drawn.append((raw, sample))
        samples = [sample for _, sample in drawn if sample]
        for raw, sample in drawn:
            yield from _describe(job, raw, sample, samples)


def _describe(
    job: Job, raw: RawBlock, sample: StoredSample | None, samples: list[StoredSample]
) -> Iterator[str]:
    stored = (
        calibrate_sample(sample, samples, job.cleaning(raw.corpus, raw.tag)) if sample else None
    )
    calibration = load_calibration(stored) if stored else None
    _, drops = clean_rows(raw, job.cleaning(raw.corpus, raw.tag), calibration)
    (tallies,) = drops.by_reason().values()
    entry = job.recipe.entries[raw.corpus]
    number = tallies.pop(READ, Tally()).number
    shares = ", ".join(
        f"{reason} {found.number / number:.1%}"
        for reason, found in sorted(tallies.items(), key=lambda item: -item[1].number)
    )
    yield (
        f"corpus {raw.corpus + 1} ({entry.scheme}:{entry.location}), {raw.tag}, {raw.split}: "
        f"of {number} sampled pairs, drops {shares or 'none'}"
    )
    if stored:
        yield from (f"  {line}" for line in lines_of([(raw.corpus, raw.tag, stored.notes)]))
    for reason, found in tallies.items():
        for pair in found.samples:
            sides = pair.source[:_SAMPLE_CHARACTERS], pair.english[:_SAMPLE_CHARACTERS]
            yield f"  {reason}\t{pair.id}\t{sides[0]}\t{sides[1]}"
