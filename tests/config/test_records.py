"""A config is checked as a whole, and its JSON gives it back."""
# SPDX-License-Identifier: Apache-2.0

import json

import pytest

from gshard_mt.config import records as configs
from gshard_mt.config.records import Config
from gshard_mt.errors import ConfigError


def changed(**values) -> Config:
    """Returns the default config with `section__key=value` set."""
    config = Config()
    for name, value in values.items():
        section, _, key = name.replace("__", ".").rpartition(".")
        setattr(configs.section_of(config, section), key, value)
    return config


def test_the_defaults_are_accepted():
    configs.check(Config())


@pytest.mark.parametrize(
    "values",
    [
        {"model__moe__num_experts": 0, "model__num_layers": 6},
        {"model__moe__num_experts": 0, "model__moe__group_size": 7},
        {"model__num_layers": 36, "model__moe__num_experts": 2048, "train__batch_rows": 8},
        {"model__tie_embeddings": True, "data__joint_vocabulary": True},
        {"mesh__data": -1, "mesh__expert": 8},
        {"mesh__stage": 2, "model__moe__num_experts": 0},
        {"train__learning_rate": 1},
        {"train__max_grad_norm": 0.0, "train__warmup_steps": 0},
    ],
)
def test_values_that_work_are_accepted(values):
    configs.check(changed(**values))


@pytest.mark.parametrize(
    "values, message",
    [
        ({"model__num_layers": 6}, "config.model.num_layers: found 6, accepted: a multiple of 4"),
        ({"model__num_layers": 0}, "config.model.num_layers: found 0"),
        ({"model__num_layers": 3, "model__moe__num_experts": 0}, "accepted: a multiple of 2"),
        ({"model__moe__num_experts": 1}, "config.model.moe.num_experts: found 1"),
        ({"model__dropout_rate": 1.0}, "config.model.dropout_rate: found 1.0, accepted: at least"),
        ({"model__dtype": "float16"}, "found 'float16', accepted: float32, bfloat16"),
        (
            {"model__moe__group_size": 500},
            "config.model.moe.group_size: found 500, accepted: a divisor",
        ),
        ({"data__target_length": 63}, "4032 target tokens of a batch"),
        ({"model__tie_embeddings": True}, "set config.data.joint_vocabulary=true too"),
        ({"mesh__data": -1}, "accepted: only one axis is -1"),
        ({"mesh__expert": 3}, "accepted: a divisor of model.moe.num_experts=8"),
        ({"mesh__stage": 2}, "config.mesh.stage: found 2, accepted: 1 with experts"),
        (
            {"mesh__stage": 2, "model__moe__num_experts": 0, "model__num_layers": 6},
            "config.mesh.stage: found 2, accepted: a divisor of the 3 layers of encoder and",
        ),
        ({"mesh__expert": 0}, "config.mesh.expert: found 0, accepted: 1 or more, or -1"),
        (
            {"train__accumulation_steps": 3},
            "config.train.accumulation_steps: found 3, accepted: a divisor of train.batch_rows=64",
        ),
        (
            {"train__accumulation_steps": 16, "model__moe__group_size": 512},
            "tokens of a micro-batch (train.batch_rows / train.accumulation_steps x data.source",
        ),
        ({"model__remat": "some"}, "found 'some', accepted: none, full, experts"),
        ({"train__optimizer": "sgd"}, "found 'sgd', accepted: adafactor, adamw"),
        ({"train__schedule": "step"}, "accepted: inverse_sqrt, linear, cosine, constant, paper"),
        ({"train__num_steps": "many"}, "train.num_steps: found 'many', accepted: an integer"),
        ({"train__num_steps": True}, "accepted: an integer"),
        ({"train__label_smoothing": -0.1}, "config.train.label_smoothing: found -0.1"),
        ({"train__learning_rate": float("nan")}, "accepted: more than 0"),
        ({"data__temperature": 0}, "config.data.temperature: found 0, accepted: more than 0"),
        ({"data__recipe": ""}, "found '', accepted: the path of a corpus recipe"),
        ({"decode__beam": 4}, "config.decode.beam: unknown key; did you mean beam_size?"),
        ({"model__moe__gates": 4}, "config.model.moe.gates: unknown key; did you mean gate?"),
        ({"model__expert_dropout_rate": 0.3}, "renamed to model.ffn_dropout_rate"),
        ({"model__gate": "top2"}, "config.model.gate: unknown key; did you mean model.moe.gate?"),
        ({"data__numbers": False}, "did you mean data.cleaning.numbers?"),
        ({"data__cleaning__max_length_ratio": 0.5}, "found 0.5, accepted: 1 or more, or 0 for no"),
        ({"data__cleaning__max_characters": -1}, "found -1, accepted: 0 or more"),
        ({"model__moe": 4}, "config.model.moe: found 4, accepted: a MoeConfig"),
        ({"model__moe__second_policy": "none"}, "accepted: random, all"),
    ],
)
def test_a_value_that_cannot_work_is_named(values, message):
    with pytest.raises(ConfigError) as raised:
        configs.check(changed(**values))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_every_number_has_accepted_values():
    checked_together = {"model.num_layers"}
    numbers = {key for key, kind in configs.known_keys().items() if kind in (int, float)}
    assert numbers - configs.ACCEPTED.keys() == checked_together


def test_json_gives_the_config_back():
    config = changed(model__num_layers=12, model__moe__num_experts=2, train__learning_rate=1)
    assert configs.from_json(json.loads(json.dumps(configs.to_json(config)))) == config


def test_json_of_an_old_run_is_translated_to_the_new_keys():
    old = {"model": {"expert_dropout_rate": 0.3}}
    assert configs.from_json(old) == changed(model__ffn_dropout_rate=0.3)


def test_json_with_a_missing_key_takes_the_default():
    assert configs.from_json({"model": {"num_layers": 12}}) == changed(model__num_layers=12)


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
        ([], "config: found [], accepted: an object of sections"),
    ],
)  # fmt: skip
def test_json_of_another_shape_is_refused(values, message):
    with pytest.raises(ConfigError) as raised:
        configs.from_json(values)
    assert str(raised.value) == message


def test_differing_keys_are_dotted_and_in_order():
    other = changed(train__seed=1, model__moe__gate="top1", data__seed=1)
    differing = ["data.seed", "model.moe.gate", "train.seed"]
    assert configs.differing_keys(Config(), other) == differing
    assert configs.differing_keys(other, other) == []
