"""Keys declare themselves; unknown ones are refused with the nearest; JSON restores a config."""
# SPDX-License-Identifier: Apache-2.0

import copy
import dataclasses
import json

import pytest

from gshard_mt.config.keys import (
    KEYS,
    RENAMED,
    differing_keys,
    from_json,
    parse_value,
    refuse_unknown_attribute,
    refuse_unknown_key,
    to_json,
)
from gshard_mt.config.options import SWITCH
from gshard_mt.config.records import Config, ModelConfig
from gshard_mt.errors import ConfigError
from tests.config.configs import changed


def test_every_key_has_a_meaning_and_accepted_values():
    for name, key in KEYS.items():
        assert key.meaning and key.accepted.words, name
        assert key.accepted.test(key.default), name
        assert type(key.default) is key.type, name
        assert (key.accepted is SWITCH) == (key.type is bool), name


def test_old_keys_are_gone_and_new_ones_known():
    assert not RENAMED.keys() & KEYS.keys() and {*RENAMED.values()} <= KEYS.keys()


@pytest.mark.parametrize(
    "key, message",
    [
        ("modle", "unknown key; did you mean model?"),
        ("modle.num_layers", "unknown key; did you mean model.num_layers?"),
        ("model.num_layer", "unknown key; did you mean num_layers?"),
        ("model.moe.gates", "unknown key; did you mean gate?"),
        ("model.gate", "unknown key; did you mean model.moe.gate?"),
        ("data.numbers", "unknown key; did you mean data.cleaning.numbers?"),
        ("decode.beam", "unknown key; did you mean beam_size?"),
        ("model", "a section; accepted: one of its keys, such as model.num_layers"),
        ("model.expert_dropout_rate", "renamed to model.ffn_dropout_rate"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest(key, message):
    with pytest.raises(ConfigError) as raised:
        refuse_unknown_key(key)
    assert str(raised.value) == f"config.{key}: {message}"


def test_an_attribute_that_is_no_key_is_refused_where_it_is_set():
    config = Config()
    with pytest.raises(AttributeError) as raised:
        config.model.moe.gates = "top2"  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ConfigError, match="config.model.moe.gates: unknown key; did you mean gate"):
        refuse_unknown_attribute(str(raised.value))
    with pytest.raises(AttributeError) as raised:
        config.modle = config.model  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ConfigError, match="config.modle: unknown key; did you mean model"):
        refuse_unknown_attribute(str(raised.value))
    refuse_unknown_attribute("'Config' is not callable")


def test_a_config_is_changed_in_place_and_copied():
    config = Config()
    other = copy.deepcopy(config)
    other.model = dataclasses.replace(ModelConfig(), num_layers=8)
    assert (config.model.num_layers, other.model.num_layers) == (4, 8)


@pytest.mark.parametrize(
    "key, text, value",
    [
        ("train.num_steps", "30", 30),
        ("train.num_steps", "1e3", 1000),
        ("train.num_steps", "1.5E3", 1500),
        ("train.learning_rate", "1e-3", 1e-3),
        ("model.dtype", "bfloat16", "bfloat16"),
        ("data.joint_vocabulary", "True", True),
        ("data.joint_vocabulary", "f", False),
    ],
)
def test_an_override_is_parsed_by_the_type_of_its_key(key, text, value):
    assert parse_value(key, text) == value


@pytest.mark.parametrize(
    "key, text, accepted",
    [
        ("train.num_steps", "1.5", "an integer"),
        ("train.num_steps", "1.55e1", "an integer"),
        ("train.num_steps", "1e999", "an integer"),
        ("train.learning_rate", "fast", "a number"),
        ("data.joint_vocabulary", "perhaps", "true or false"),
        ("model.dtype", None, "text"),
    ],
)
def test_an_override_of_another_type_is_refused(key, text, accepted):
    with pytest.raises(ConfigError) as raised:
        parse_value(key, text)
    assert str(raised.value) == f"config.{key}: found {text!r}, accepted: {accepted}"


def test_json_gives_the_config_back():
    config = changed(model__num_layers=12, model__moe__num_experts=2, train__learning_rate=1)
    assert from_json(json.loads(json.dumps(to_json(config)))) == config


def test_json_with_a_missing_key_takes_the_default():
    assert from_json({"model": {"num_layers": 12}}) == changed(model__num_layers=12)


def test_json_of_an_old_run_is_translated_to_the_new_keys():
    old = {"model": {"expert_dropout_rate": 0.3}}
    assert from_json(old) == changed(model__ffn_dropout_rate=0.3)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"modle": {}}, "config.modle: unknown key; did you mean model?"),
        ({"model": {"num_layer": 4}},
         "config.model.num_layer: unknown key; did you mean num_layers?"),
        ({"model": {"num_layers": "4"}},
         "config.model.num_layers: found '4', accepted: an integer"),
        ({"model": 4}, "config.model: found 4, accepted: an object of keys"),
        ({"model": {"moe": 4}}, "config.model.moe: found 4, accepted: an object of keys"),
        ({"model": {"moe": {"gates": 4}}},
         "config.model.moe.gates: unknown key; did you mean gate?"),
        ([], "config: found [], accepted: an object of keys"),
    ],
)  # fmt: skip
def test_json_of_another_shape_is_refused(values, message):
    with pytest.raises(ConfigError) as raised:
        from_json(values)
    assert str(raised.value) == message


def test_differing_keys_are_dotted_and_in_order():
    other = changed(train__seed=1, model__moe__gate="top1", data__seed=1)
    differing = ["data.seed", "model.moe.gate", "train.seed"]
    assert differing_keys(Config(), other) == differing
    assert differing_keys(other, other) == []
