"""The stages of a training: consecutive parts with their own mixture and learning rate."""
# SPDX-License-Identifier: Apache-2.0

# Annotations stay real types (no postponed evaluation): the documentation shows them.

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

from gshard_mt.config.options import Accepted, above, at_least, option
from gshard_mt.errors import ConfigError, suggest


def _are_weights(value: dict) -> bool:
    return all(
        type(name) is str and type(weight) in (int, float) and 0 <= weight < math.inf
        for name, weight in value.items()
    )


@dataclasses.dataclass(slots=True)
class StageConfig:
    """One stage of `train.stages`. What it doesn't set is as without stages."""

    until: int = option(
        0, "last step of the stage", at_least(1).or_value(0, "the last stage: train.num_steps")
    )
    weights: dict = dataclasses.field(
        default_factory=dict,
        metadata={
            "meaning": "weights of corpora (globs over their names; the last one that matches "
            "counts); the others' are those of the recipe",
            "accepted": Accepted(_are_weights, "numbers by name, 0 (left out) or more"),
        },
    )
    temperature: float = option(
        0.0, "data.temperature in this stage", above(0).or_value(0, "data.temperature")
    )
    rate: float = option(1.0, "factor of the learning rate", above(0))


_FIELDS = {field.name: field for field in dataclasses.fields(StageConfig)}
_TYPE_WORDS = {int: "an integer", float: "a number", dict: "a dict of numbers by name"}


def read_stages(values: Any) -> Any:
    """Returns the stages that `config.json` has as a list of objects; other values as they are."""
    if not isinstance(values, list):
        return values
    for number, value in enumerate(values):
        for name in value if isinstance(value, dict) else ():
            if name not in _FIELDS:
                raise ConfigError(
                    f"config.train.stages[{number}].{name}: unknown key{suggest(name, _FIELDS)}"
                )
    return tuple(StageConfig(**each) if isinstance(each, dict) else each for each in values)


def check_stages(stages: tuple, num_steps: int) -> None:
    """Raises ConfigError at the first stage that can't be, by itself or after those before it."""
    for number, stage in enumerate(stages):
        for key, holds, found, accepted in _rules(stage, number, stages, num_steps):
            if not holds:
                where = f"config.train.stages[{number}]{key}"
                raise ConfigError(f"{where}: found {found!r}, accepted: {accepted}")


def _rules(
    stage: StageConfig, number: int, stages: tuple, num_steps: int
) -> Iterator[tuple[str, bool, Any, str]]:
    """Yields the part of the key, whether a rule holds, what was found and what is accepted."""
    for name, field in _FIELDS.items():
        value, kinds = getattr(stage, name), (int, float) if field.type is float else (field.type,)
        yield f".{name}", type(value) in kinds, value, _TYPE_WORDS[field.type]
        accepted = field.metadata["accepted"]
        yield f".{name}", accepted.test(value), value, accepted.words
    least = stages[number - 1].until + 1 if number else 1
    if number == len(stages) - 1:
        is_to_end = stage.until == 0 or stage.until >= num_steps
        accepted = f"0 (the last stage ends with train.num_steps={num_steps})"
        yield ".until", is_to_end, stage.until, accepted
        yield ".until", stage.until == 0 or stage.until >= least, stage.until, f"0, {least} or more"
    else:
        yield ".until", stage.until >= least, stage.until, f"{least} or more (only the last has 0)"


def stage_number(stages: tuple, step: int) -> int:
    """Returns the number, from 0, of the stage that a step, from 1, belongs to; 0 without stages.

    Steps after the last stage belong to it.
    """
    borders = [stage.until for stage in stages[:-1]]
    return sum(step > border for border in borders)


def have_same_past(old: tuple, new: tuple, step: int) -> bool:
    """Tells whether two lists of stages are the same up to a step; those after it may differ.

    They are not if one of them is empty, or has weights and the other hasn't: the data then have
    other streams.
    """
    if bool(old) != bool(new) or any(s.weights for s in old) != any(s.weights for s in new):
        return False
    borders = {stage.until for stage in (*old[:-1], *new[:-1])}
    firsts = {1} | {border + 1 for border in borders if border < step}
    return all(
        dataclasses.replace(old[stage_number(old, first)], until=0)
        == dataclasses.replace(new[stage_number(new, first)], until=0)
        for first in firsts
        if old
    )
