"""The stages of the training data: which mixture the batch of a step is from."""
# SPDX-License-Identifier: Apache-2.0

import fnmatch
from collections.abc import Sequence
from typing import NamedTuple

from gshard_mt.config.records import DataConfig
from gshard_mt.config.stages import StageConfig
from gshard_mt.data.position import StreamPosition, change_mixture
from gshard_mt.data.prepared import Prepared
from gshard_mt.data.streams import Stream, list_streams
from gshard_mt.errors import ConfigError, DataError, suggest


class DataStage(NamedTuple):
    """Consecutive steps whose batches are from one mixture."""

    until: int | None  # its last step; None: all further ones
    beginning: StreamPosition  # of its mixture, as if it were the first
    has_corpora: bool  # whether the streams are those of corpora


def plan_stages(
    prepared: Prepared, config: DataConfig, stages: tuple[StageConfig, ...], chunk_pairs: int
) -> list[DataStage]:
    """Returns the stages of a training; without any, there is one without end.

    Corpora have streams of their own if the recipe or a stage gives one a weight. Raises
    ConfigError for a weight of an unknown corpus and for a stage without training pairs, DataError
    if the data don't know the corpora that weights are for.
    """
    weighted = [number for number, stage in enumerate(stages) if stage.weights]
    recipe_weights = [each.weight for some in prepared.corpora.values() for each in some]
    has_corpora = bool(weighted) or any(weight != 1 for weight in recipe_weights)
    if weighted and not recipe_weights:
        raise DataError(
            f"{prepared.directory}: prepared by a version that didn't record the corpora of the "
            f"pairs, which config.train.stages[{weighted[0]}].weights needs; prepare the data again"
        )
    streams = list_streams(prepared, has_corpora)
    planned = []
    for number, stage in enumerate(stages or (StageConfig(),)):
        weights = _find_weights(streams, stage, f"config.train.stages[{number}].weights")
        if not any(weights[stream.name] for stream in streams if stream.pairs):
            raise _no_pairs(prepared, stages, number)
        pairs = {stream.name: _describe(stream) for stream in streams}
        if has_corpora:
            pairs = {name: info | {"weight": weights[name]} for name, info in pairs.items()}
        temperature = stage.temperature or config.temperature
        beginning = StreamPosition(prepared.fingerprint, temperature, chunk_pairs, pairs)
        if stages:
            beginning = beginning._replace(step=0)
        is_last = number >= len(stages) - 1
        planned.append(DataStage(None if is_last else stage.until, beginning, has_corpora))
    return planned


def stage_after(stages: Sequence[DataStage], step: int) -> DataStage:
    """Returns the stage of a step, from 1, or of the position before the first."""
    return next(stage for stage in stages if stage.until is None or step <= stage.until)


def begin_stage(stages: Sequence[DataStage], position: StreamPosition, seed: int) -> StreamPosition:
    """Returns the position at which the next batch begins: another one where a new stage does.

    `position.change_mixture` defines where its streams continue.
    """
    step = position.step
    if step is None or all(stage.until != step for stage in stages):
        return position
    new = stage_after(stages, step + 1).beginning._replace(step=step)
    return change_mixture(position, new, seed)


def _find_weights(streams: Sequence[Stream], stage: StageConfig, where: str) -> dict[str, float]:
    """Returns each stream's weight in a stage: of the last glob that matches, or the recipe's."""
    known = {stream.corpus for stream in streams}
    for glob in stage.weights:
        if not fnmatch.filter(known, glob):
            raise ConfigError(
                f"{where}: found {glob!r}, which is no corpus of the data{suggest(glob, known)}"
            )
    weights = {}
    for stream in streams:
        own = [
            weight
            for glob, weight in stage.weights.items()
            if fnmatch.fnmatchcase(stream.corpus, glob)
        ]
        weights[stream.name] = float(own[-1] if own else stream.weight)
    return weights


def _describe(stream: Stream) -> dict[str, int]:
    counts = {key: getattr(stream, key) for key in ("pairs", "source_tokens", "target_tokens")}
    return {**counts, "start": 0}


def _no_pairs(prepared: Prepared, stages: tuple[StageConfig, ...], number: int) -> Exception:
    if not any(prepared.train_pairs.values()):
        return DataError(f"{prepared.directory}: no training pairs")
    if stages:
        return ConfigError(
            f"config.train.stages[{number}].weights: found {stages[number].weights}, accepted: "
            "a weight above 0 for a corpus that has training pairs"
        )
    return DataError(
        f"{prepared.directory}: the recipe gives all corpora with training pairs weight 0; "
        "give one more and prepare the data again"
    )
