"""Results: files in which a pipeline on other machines leaves its output for the driver."""
# SPDX-License-Identifier: Apache-2.0

import os
import pathlib
import pickle
import uuid
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from gshard_mt.data.prepare.drops import Drops, Tally
from gshard_mt.data.prepare.job import PipelineOutput
from gshard_mt.data.prepare.keys import Split
from gshard_mt.data.prepare.shards import Shard
from gshard_mt.errors import UserError
from gshard_mt.languages import merge_locales

NAMES = ("tags", "clean_drops", "select_drops", "references", "shards")
ERROR = "error"


def write_result(content: Any, name: str, folder: pathlib.Path) -> None:
    """Writes the result `name` atomically; pickled, as Beam pickles it between steps."""
    draft = folder / uuid.uuid4().hex
    draft.write_bytes(pickle.dumps(content))
    os.replace(draft, folder / name)


def read_results(folder: pathlib.Path) -> PipelineOutput:
    """Returns the output in the results of all NAMES."""
    tags, clean_drops, select_drops, references, shards = (
        pickle.loads((folder / name).read_bytes()) for name in NAMES
    )
    languages = merge_locales(sorted(tags))
    drops = _drops(select_drops)
    drops.merge(_drops(clean_drops), languages)
    found: dict[Split, list[Shard]] = defaultdict(list)
    for key, _, shard in sorted(shards, key=lambda each: each[:2]):
        found[key].append(shard)
    return PipelineOutput(sorted(set(languages.values())), found, dict(references), drops)


def read_error(folder: pathlib.Path) -> UserError | None:
    """Returns the error that a step left, because runners would pass it on as a traceback."""
    path = folder / ERROR
    return pickle.loads(path.read_bytes()) if path.exists() else None


def _drops(tallies: Iterable[tuple[tuple[str, str], Tally]]) -> Drops:
    drops = Drops()
    for (language, reason), (number, samples) in sorted(tallies):
        drops.add(language, reason, number, [sample[2:] for sample in samples])
    return drops
