"""A preparation job, and what a pipeline returns: shards, held-out text and counts of drops."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from gshard_mt.config.records import DataConfig
from gshard_mt.data.corpora.recipe import Recipe
from gshard_mt.data.manifest import WORK
from gshard_mt.data.prepare.drops import Drops, Sentences
from gshard_mt.data.prepare.shards import Shard
from gshard_mt.errors import DataError


class Job(NamedTuple):
    """What to prepare and where; the directory `work` exists and is empty."""

    config: DataConfig
    recipe: Recipe
    data_dir: pathlib.Path
    keep_out: np.ndarray  # sorted keys of sentences to keep out of training

    @property
    def work(self) -> pathlib.Path:
        return self.data_dir / WORK

    def from_anywhere(self) -> "Job":
        """Returns the job with absolute paths, for processes in other directories."""
        entries = [
            dataclasses.replace(entry, folder=entry.folder.absolute())
            for entry in self.recipe.entries
        ]
        recipe = dataclasses.replace(self.recipe, entries=tuple(entries))
        return self._replace(recipe=recipe, data_dir=self.data_dir.absolute())


class PipelineOutput(NamedTuple):
    """All text as shards, which are still in `work`; the tokenizer is in the data directory.

    `shards` has all of entry.SPLITS for every language, `references` has dev and test.
    """

    shards: dict[str, dict[str, list[Shard]]]  # language -> split -> ordered by ids
    references: dict[str, dict[str, list[Sentences]]]  # language -> dev, test -> sentences
    drops: Drops


# There are two with the same output: local.run_locally and beam.pipeline.beam_pipeline.
Pipeline = Callable[[Job], PipelineOutput]


def no_training_pair(job: Job) -> DataError:
    """Returns the error for a recipe of which nothing is left."""
    return DataError(f"{job.config.recipe}: after cleaning no training pair is left")
