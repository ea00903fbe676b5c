"""Results: JSON files in which a pipeline on other machines leaves its output for the driver."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import json
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from gshard_mt.data.corpora.entry import SPLITS
from gshard_mt.data.prepare.drops import Drops, Tally
from gshard_mt.data.prepare.job import PipelineOutput
from gshard_mt.data.prepare.keys import KeyedPairs
from gshard_mt.data.prepare.shards import Shard, SideCounts, SplitCounts
from gshard_mt.data.records import ShardInfo
from gshard_mt.documents import write_json
from gshard_mt.errors import ConfigError, DataError, UserError
from gshard_mt.languages import merge_locales

NAMES = ("tags", "clean_drops", "select_drops", "references", "shards")

_ERROR = "error"
_ERRORS = {kind.__name__: kind for kind in (ConfigError, DataError, UserError)}


def write_result(content: Any, name: str, folder: pathlib.Path) -> None:
    """Writes the result `name` as JSON, atomically."""
    write_json(folder / f"{name}.json", content)


def read_results(folder: pathlib.Path) -> PipelineOutput:
    """Returns the output in the files of all NAMES."""
    content = {
        name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in NAMES
    }
    languages = merge_locales(sorted(content["tags"]))
    names = sorted(set(languages.values()))
    drops = _drops(content["select_drops"])
    drops.merge(_drops(content["clean_drops"]), languages)
    shards: dict[str, dict[str, list[Shard]]] = {
        name: {split: [] for split in SPLITS} for name in names
    }
    for language, split, _, shard in sorted(content["shards"], key=lambda record: record[:3]):
        shards[language][split].append(_shard(shard))
    references = {name: {split: [] for split in ("dev", "test")} for name in names}
    for language, split, sentences in content["references"]:
        references[language][split] = [(source, english) for source, english in sentences]
    return PipelineOutput(shards, references, drops)


def tally_record(element: tuple[tuple[str, str], Tally]) -> list:
    """Returns the drops of one language and reason, fit for JSON."""
    key, (number, samples) = element
    return [*key, number, samples]


def references_record(element: tuple[tuple[str, str], KeyedPairs]) -> list:
    """Returns a held-out split, fit for JSON."""
    key, pairs = element
    return [*key, pairs.sentences()]


def shard_record(element: tuple[tuple[str, str], tuple[int, Shard]]) -> list:
    """Returns a shard, fit for JSON."""
    key, (number, shard) = element
    return [*key, number, _shard_content(shard)]


def leave_error(error: UserError, folder: pathlib.Path) -> None:
    """Writes an error for `read_error`, because runners would pass it on as a traceback."""
    write_result([type(error).__name__, str(error)], _ERROR, folder)


def read_error(folder: pathlib.Path) -> UserError | None:
    """Returns the error that a step wrote, or None."""
    try:
        kind, message = json.loads((folder / f"{_ERROR}.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return _ERRORS[kind](message)


def _drops(records: Iterable[list]) -> Drops:
    drops = Drops()
    for language, reason, number, samples in sorted(records):
        sentences = [(source, english) for *_, source, english in samples]
        drops.add(language, reason, number, sentences)
    return drops


def _shard_content(shard: Shard) -> dict[str, Any]:
    counts = dataclasses.asdict(shard.counts)
    for side in ("source", "target"):
        counts[side]["lengths"] = counts[side]["lengths"].tolist()
    return {
        "info": [str(shard.info.path), shard.info.num_records, shard.info.num_bytes],
        "counts": counts,
        "drops": [
            [language, reason, number, shard.drops.samples[language, reason]]
            for language, reasons in shard.drops.counts.items()
            for reason, number in reasons.items()
        ],
    }


def _shard(content: dict[str, Any]) -> Shard:
    path, *numbers = content["info"]
    counts = content["counts"]
    sides = {side: counts[side] for side in ("source", "target")}
    for side in sides.values():
        side["lengths"] = np.array(side["lengths"], np.int64)
    sides = {name: SideCounts(**side) for name, side in sides.items()}
    return Shard(
        ShardInfo(pathlib.Path(path), *numbers),
        SplitCounts(counts["pairs"], **sides),
        _drops(content["drops"]),
    )
