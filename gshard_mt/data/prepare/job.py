"""A preparation job, and what a pipeline returns: shards, held-out text and counts of drops."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from gshard_mt.config.records import CleaningConfig, DataConfig
from gshard_mt.data.corpora.recipe import Recipe
from gshard_mt.data.manifest import WORK
from gshard_mt.data.prepare.drops import Drops, Sentences
from gshard_mt.data.prepare.keys import Split
from gshard_mt.data.prepare.shards import Shard
from gshard_mt.languages import base_language, plain_tag


class Job(NamedTuple):
    """What to prepare and where; the directory `work` exists and has only `trained`."""

    config: DataConfig
    recipe: Recipe
    data_dir: pathlib.Path
    keep_out: np.ndarray  # sorted keys of sentences to keep out of training
    # split -> sorted keys of English that is held out of earlier data
    held_out: Mapping[str, np.ndarray] = {}

    @property
    def work(self) -> pathlib.Path:
        return self.data_dir / WORK

    @property
    def trained(self) -> pathlib.Path:
        """The file of the sorted keys of sentences to keep out of what is held out."""
        return self.work / "trained.npy"

    def cleaning(self, corpus: int, tag: str) -> CleaningConfig:
        """Returns the settings for a language tag in the recipe's n-th corpus."""
        of_all: dict[str, Any] = {}
        of_tag: dict[str, Any] = {}
        for key, value in self.recipe.entries[corpus].cleaning:
            language, _, name = key.rpartition(".")
            if not language:
                of_all[name] = value
            elif language in (plain_tag(tag), base_language(tag)):
                of_tag[name] = value
        return dataclasses.replace(self.config.cleaning, **of_all | of_tag)

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

    A split without pairs may be missing.
    """

    languages: list[str]  # of the recipe, sorted
    shards: dict[Split, list[Shard]]  # ordered by ids
    references: dict[Split, list[Sentences]]  # dev and test
    drops: Drops
    notes: list[str]  # of the filters' calibration


# There are three with the same output: local.run_locally, dask.dask_pipeline and
# beam.pipeline.beam_pipeline.
Pipeline = Callable[[Job], PipelineOutput]
