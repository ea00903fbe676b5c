"""Results: JSON files in which a pipeline on other machines leaves its output for the driver."""
# SPDX-License-Identifier: Apache-2.0

import json
import pathlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from gshard_mt.data.prepare.drops import DropKey, DroppedPair, Drops, Tally
from gshard_mt.data.prepare.job import PipelineOutput
from gshard_mt.data.prepare.keys import Split
from gshard_mt.data.prepare.samples import lines_of
from gshard_mt.data.prepare.shards import CorpusCounts, Shard, SideCounts, SplitCounts
from gshard_mt.data.records import ShardInfo
from gshard_mt.documents import write_json
from gshard_mt.errors import ConfigError, DataError, UserError
from gshard_mt.languages import merge_locales

NAMES = ("tags", "clean_drops", "select_drops", "references", "shards", "notes")
ERROR = "error"
_ERRORS = {kind.__name__: kind for kind in (ConfigError, DataError, UserError)}


def write_result(content: Any, name: str, folder: pathlib.Path) -> None:
    """Writes the result `name` as JSON, atomically; tuples become lists."""
    write_json(folder / f"{name}.json", content, default=_encode)


def read_results(folder: pathlib.Path) -> PipelineOutput:
    """Returns the output in the results of all NAMES."""
    tags, clean_drops, select_drops, references, shards, notes = (
        _read(name, folder) for name in NAMES
    )
    languages = merge_locales(sorted(tags))
    drops = _decode_drops(select_drops)
    drops.merge(_decode_drops(clean_drops), languages)
    found: dict[Split, list[Shard]] = defaultdict(list)
    for key, _, shard in sorted(shards, key=lambda each: each[:2]):
        found[tuple(key)].append(_decode_shard(*shard))
    sentences = {tuple(key): list(map(tuple, pairs)) for key, pairs in references}
    return PipelineOutput(sorted(set(languages.values())), found, sentences, drops, lines_of(notes))


def read_error(folder: pathlib.Path) -> UserError | None:
    """Returns the error that a step left, because runners would pass it on as a traceback."""
    try:
        kind, message = _read(ERROR, folder)
    except FileNotFoundError:
        return None
    return _ERRORS[kind](message)


def _read(name: str, folder: pathlib.Path) -> Any:
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def _encode(value: Any) -> Any:
    """Returns a value that JSON doesn't know as one that it does."""
    match value:
        case SplitCounts() | SideCounts():
            return vars(value)
        case Drops():
            return list(value.tallies.items())
        case UserError():
            return type(value).__name__, str(value)
        case pathlib.Path():
            return str(value)
    raise TypeError(f"{type(value).__name__} in a result")


def _decode_drops(tallies: Iterable[Any]) -> Drops:
    drops = Drops()
    for key, (number, samples) in tallies:
        pairs = tuple(DroppedPair(*sample) for sample in samples)
        drops.add(DropKey(*key), Tally(number, pairs))
    return drops


def _decode_shard(info: list, counts: dict[str, Any], drops: list) -> Shard:
    path, num_records, num_bytes = info
    for side in ("source", "target"):
        lengths = Counter({int(bin): number for bin, number in counts[side]["lengths"].items()})
        counts[side] = SideCounts(**counts[side] | {"lengths": lengths})
    corpora = {int(corpus): CorpusCounts(*each) for corpus, each in counts["corpora"].items()}
    counts["corpora"] = corpora
    shard_info = ShardInfo(pathlib.Path(path), num_records, num_bytes)
    return Shard(shard_info, SplitCounts(**counts), _decode_drops(drops))
