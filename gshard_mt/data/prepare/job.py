"""A preparation's job, and what a pipeline makes of it: shards, held-out text, counts of drops."""
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
    """What is to be prepared, and where; `work` in it is there and empty."""

    config: DataConfig
    recipe: Recipe
    data_dir: pathlib.Path
    keep_out: np.ndarray  # sorted keys of sentences that training may not hold

    @property
    def work(self) -> pathlib.Path:
        return self.data_dir / WORK

    def from_anywhere(self) -> "Job":
        """Returns the job with absolute paths, for processes that stand elsewhere."""
        entries = [
            dataclasses.replace(entry, folder=entry.folder.absolute())
            for entry in self.recipe.entries
        ]
        recipe = dataclasses.replace(self.recipe, entries=tuple(entries))
        return self._replace(recipe=recipe, data_dir=self.data_dir.absolute())


class PipelineOutput(NamedTuple):
    """All of the text as shards, which lie in `work` still; the tokenizer is in its place.

    Every language has all of entry.SPLITS in `shards`, dev and test in `references`.
    """

    shards: dict[str, dict[str, list[Shard]]]  # language -> split -> in the order of ids
    references: dict[str, dict[str, list[Sentences]]]  # language -> dev, test -> what is scored
    drops: Drops


# Of these there are two, and what they make is the same: local_pipeline.run_locally and
# beam_pipeline.beam_pipeline.
Pipeline = Callable[[Job], PipelineOutput]


def no_training_pair(job: Job) -> DataError:
    """Returns the error of a recipe that nothing is left of."""
    return DataError(f"{job.config.recipe}: after cleaning no training pair is left")
