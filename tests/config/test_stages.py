"""Stages are checked one after another, restored from JSON, and set in the config file alone."""
# SPDX-License-Identifier: Apache-2.0

import json
import math

import pytest

from gshard_mt.config.checks import check
from gshard_mt.config.keys import differing_keys, from_json, parse_value, to_json
from gshard_mt.config.records import Config
from gshard_mt.config.stages import StageConfig, have_same_past, stage_number
from gshard_mt.errors import ConfigError

STAGES = (
    StageConfig(until=500, weights={"mined-*": 1, "clean": 0}),
    StageConfig(until=800, temperature=1),
    StageConfig(rate=0.1),
)


def with_stages(*stages) -> Config:
    config = Config()
    config.train.stages = stages
    return config


def test_json_gives_the_stages_back_and_old_runs_have_none():
    config = with_stages(*STAGES)
    assert differing_keys(from_json(json.loads(json.dumps(to_json(config)))), config) == []
    old = to_json(config)
    del old["train"]["stages"]
    assert from_json(old).train.stages == ()
    check(config)


@pytest.mark.parametrize(
    "stages, message",
    [
        ([StageConfig(until=0), StageConfig()],
         "stages[0].until: found 0, accepted: 1 or more (only the last has 0)"),
        ([StageConfig(until=9), StageConfig(until=9), StageConfig()],
         "stages[1].until: found 9, accepted: 10 or more (only the last has 0)"),
        ([StageConfig(until=9), StageConfig(until=999)],
         "stages[1].until: found 999, accepted: 0 (the last stage ends with train.num_steps=1000)"),
        ([StageConfig(until=2000), StageConfig(until=1000)],
         "stages[1].until: found 1000, accepted: 0, 2001 or more"),
        ([StageConfig(until=-1), StageConfig()],
         "stages[0].until: found -1, accepted: 0 (the last stage: train.num_steps), or 1 or more"),
        ([StageConfig(weights={"clean": -1})],
         "stages[0].weights: found {'clean': -1}, accepted: numbers by name, 0 (left out) or more"),
        ([StageConfig(weights={"clean": math.nan})],
         "stages[0].weights: found {'clean': nan}, accepted: numbers by name, 0 (left out) or "
         "more"),
        ([StageConfig(weights={"clean": True})],
         "stages[0].weights: found {'clean': True}, accepted: numbers by name, 0 (left out) or "
         "more"),
        ([StageConfig(weights=[3])],  # pyright: ignore[reportArgumentType]
         "stages[0].weights: found [3], accepted: a dict of numbers by name"),
        ([StageConfig(rate=0)], "stages[0].rate: found 0, accepted: more than 0"),
        ([StageConfig(temperature=-1)],
         "stages[0].temperature: found -1, accepted: 0 (data.temperature), or more than 0"),
        ([500], "stages: found (500,), accepted: StageConfigs in ascending order, set in the "
         "config file"),
    ],
)  # fmt: skip
def test_stages_that_cannot_be_are_refused(stages, message):
    with pytest.raises(ConfigError) as raised:
        check(with_stages(*stages))
    assert str(raised.value) == f"config.train.{message}"


def test_an_unknown_key_of_a_stage_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"stages\[0\].weight: unknown key; did you mean weights"):
        from_json({"train": {"stages": [{"weight": {}}]}})


def test_stages_are_refused_on_the_command_line():
    with pytest.raises(ConfigError) as raised:
        parse_value("train.stages", "[]")
    assert str(raised.value) == (
        "config.train.stages: found on the command line; set it in the config file"
    )


def test_a_stage_ends_with_the_step_that_it_names():
    numbers = [stage_number(STAGES, step) for step in (1, 500, 501, 800, 801, 10**6)]
    assert numbers == [0, 0, 1, 1, 2, 2]
    assert stage_number((), 5) == 0


def test_stages_have_the_same_past_if_no_step_so_far_was_of_another_kind():
    first, *rest = STAGES
    moved = (StageConfig(until=600, weights=first.weights), *rest)
    assert have_same_past(STAGES, moved, 500) and not have_same_past(STAGES, moved, 501)
    added = (*STAGES[:2], StageConfig(until=900, rate=0.1), StageConfig(rate=0.01))
    assert have_same_past(STAGES, added, 900) and not have_same_past(STAGES, added, 901)
    split = (StageConfig(until=100, weights=first.weights), *STAGES)
    assert have_same_past(STAGES, split, 10**6)
    # Without weights languages have one stream each, and without stages no steps are counted.
    assert not have_same_past((StageConfig(),), (StageConfig(until=9), first), 5)
    assert not have_same_past((), (StageConfig(),), 0) and have_same_past((), (), 9)
