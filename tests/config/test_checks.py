"""A config is checked as a whole, without JAX, and refused in one line that starts with the key."""
# SPDX-License-Identifier: Apache-2.0

import pytest

from gshard_mt.config.checks import check
from gshard_mt.config.records import Config
from gshard_mt.errors import ConfigError
from gshard_mt.model.depth import REMATS
from gshard_mt.routing.dispatch import DISPATCHES
from gshard_mt.routing.gating import GATES
from gshard_mt.routing.strategies import DISPATCH_NAMES, DROPLESS, STRATEGIES
from tests.config.configs import changed


def test_the_defaults_are_accepted():
    check(Config())


@pytest.mark.parametrize(
    "values",
    [
        {"model__moe__num_experts": 0, "model__num_layers": 6},
        {"model__moe__num_experts": 0, "model__moe__group_size": 7},
        {"model__moe__num_experts": 0, "model__num_layers": 5, "model__num_decoder_layers": 1},
        {"model__num_layers": 6, "model__num_decoder_layers": 2},
        {"model__num_layers": 36, "model__moe__num_experts": 2048, "train__batch_rows": 8},
        {"model__tie_embeddings": True, "data__joint_vocabulary": True},
        {"mesh__data": -1, "mesh__expert": 8},
        {"mesh__stage": 2, "model__moe__num_experts": 0},
        {"train__learning_rate": 1, "train__l2_sp": 1.0},
        {"train__max_grad_norm": 0.0, "train__warmup_steps": 0},
        {"train__save_minutes": 0.5, "train__spike_sigmas": 6},
        *(
            {"model__moe__gate": gate}
            for gate in STRATEGIES
            if gate not in ("hierarchical", "expert_choice")
        ),
        {"model__moe__gate": "hierarchical", "model__moe__num_expert_groups": 4},
        {"model__moe__gate": "expert_choice", "model__moe__decoder_gate": "top2"},
        {"model__moe__gate": "top_k", "model__moe__num_choices": 3,
         "model__moe__dispatch": "dropless"},
        {"model__moe__gate": "hash", "model__moe__decoder_gate": "top1",
         "model__moe__z_loss_weight": 0.1},
        {"model__moe__all_to_all_dtype": "int8", "model__moe__all_to_all_chunks": 4},
    ],
)  # fmt: skip
def test_values_that_work_are_accepted(values):
    check(changed(**values))


@pytest.mark.parametrize(
    "values, message",
    [
        ({"model__num_layers": 6}, "config.model.num_layers: found 6, accepted: a multiple of 4"),
        ({"model__num_layers": 0}, "config.model.num_layers: found 0"),
        ({"model__num_layers": 3, "model__moe__num_experts": 0},
         "config.model.num_layers: found 3, accepted: a multiple of 2 (half for the decoder"),
        ({"model__num_layers": 5, "model__num_decoder_layers": 2},
         "config.model.num_layers: found 5, accepted: an even number"),
        ({"model__num_layers": 8, "model__num_decoder_layers": 3},
         "config.model.num_decoder_layers: found 3, accepted: less than model.num_layers=8, the "
         "layers of both, and even"),
        ({"model__num_decoder_layers": 4}, "config.model.num_decoder_layers: found 4, accepted: l"),
        ({"model__num_decoder_layers": -2}, "config.model.num_decoder_layers: found -2"),
        ({"model__moe__num_experts": 1}, "config.model.moe.num_experts: found 1"),
        ({"model__dropout_rate": 1.0}, "config.model.dropout_rate: found 1.0, accepted: at least"),
        ({"model__dtype": "float16"}, "found 'float16', accepted: float32, bfloat16"),
        ({"model__tie_embeddings": True}, "accepted: False with two vocabularies"),
        ({"data__tokenizer": "old", "data__extend_tokenizer": "older"},
         "config.data.extend_tokenizer: found 'older', accepted: nothing with data.tokenizer=old"),
        ({"model__remat": "some"}, "found 'some', accepted: none, full, experts"),
        ({"model__moe": 4}, "config.model.moe: found 4, accepted: a MoeConfig"),
        ({"train__optimizer": "sgd"}, "found 'sgd', accepted: adafactor, adamw"),
        ({"train__schedule": "step"}, "accepted: inverse_sqrt, linear, cosine, constant, paper"),
        ({"train__num_steps": "many"}, "train.num_steps: found 'many', accepted: an integer"),
        ({"train__num_steps": True}, "accepted: an integer"),
        ({"train__label_smoothing": -0.1}, "config.train.label_smoothing: found -0.1"),
        ({"train__learning_rate": float("nan")}, "accepted: more than 0"),
        ({"train__best_by": "bleu"}, "config.train.best_by: found 'bleu', accepted: nll"),
        ({"train__save_every": 15}, "found 15, accepted: a multiple of train.log_every=10"),
        ({"train__l2_sp": 200},
         "config.train.l2_sp: found 200, accepted: at most 100, 1 / train.learning_rate"),
        ({"data__temperature": 0}, "config.data.temperature: found 0, accepted: more than 0"),
        ({"data__cleaning__max_length_ratio": 0.5},
         "found 0.5, accepted: 0 (no limit), or 1 or more"),
        ({"data__augmentation__typos": 1.0}, "config.data.augmentation.typos: found 1.0, accepted"),
        ({"data__augmentation__typos": 0.4, "data__augmentation__upper_case": 0.7},
         "config.data.augmentation.upper_case: found 0.7, accepted: less, as all shares"),
        ({"data__cleaning__max_characters": -1}, "found -1, accepted: 0 (no limit), or 1 or more"),
        ({"mesh__expert": 0}, "mesh.expert: found 0, accepted: -1 (the remaining devices), or 1"),
        ({"mesh__num_cpu_devices": -1}, "config.mesh.num_cpu_devices: found -1"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_work_is_refused_with_its_key(values, message):
    refused(changed(**values), message)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"gate": "top3"}, "config.model.moe.gate: found 'top3', accepted: top2, top1, top_k"),
        ({"decoder_gate": "hsh"}, "config.model.moe.decoder_gate: found 'hsh', accepted: same, "),
        ({"dispatch": "slot"}, "found 'slot', accepted: auto, slots, einsum, dropless"),
        ({"second_policy": "none"}, "found 'none', accepted: random, all"),
        ({"gate": "expert_choice"},
         "decoder_gate: found 'same', accepted: a gate of its own, such as top2"),
        ({"decoder_gate": "expert_choice"}, "decoder_gate: found 'expert_choice', accepted: same"),
        ({"gate": "expert_choice", "decoder_gate": "top2", "dispatch": "dropless"},
         "config.model.moe.dispatch: found 'dropless', accepted: auto, slots, einsum (experts of"),
        ({"gate": "top1", "second_policy": "all"},
         "second_policy: found 'all', accepted: 'random' (gate top1 does not take it; top2 would)"),
        ({"num_choices": 3}, "num_choices: found 3, accepted: 2 (gate top2 does not take it"),
        ({"gate": "top_k", "num_choices": 9}, "found 9, accepted: 1 to model.moe.num_experts=8"),
        ({"gate": "hierarchical"}, "num_expert_groups: found 0, accepted: 2 or more, a divisor"),
        ({"gate": "hierarchical", "num_expert_groups": 3}, "found 3, accepted: 2 or more, a div"),
        ({"num_expert_groups": 4}, "num_expert_groups: found 4, accepted: 0 (only gate hier"),
        ({"gate": "hash", "z_loss_weight": 0.1}, "config.model.moe.z_loss_weight: found 0.1"),
        ({"gate": "hash", "router_jitter": 0.1}, "config.model.moe.router_jitter: found 0.1"),
        ({"dispatch": "dropless", "all_to_all_dtype": "int8"},
         "config.model.moe.all_to_all_dtype: found 'int8', accepted: 'same'"),
        ({"dispatch": "dropless", "all_to_all_chunks": 2}, "found 2, accepted: 1"),
        ({"capacity_factor": 0.0}, "config.model.moe.capacity_factor: found 0.0, accepted: more"),
        ({"min_capacity": 0}, "config.model.moe.min_capacity: found 0, accepted: 1 or more"),
    ],
)  # fmt: skip
def test_settings_of_experts_that_cannot_apply_are_refused(values, message):
    refused(changed(**{f"model__moe__{name}": value for name, value in values.items()}), message)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"model__moe__group_size": 500},
         "config.model.moe.group_size: found 500, accepted: a divisor of the 4096 source tokens"),
        ({"data__source_length": 20}, "a divisor of the 1280 source tokens"),
        ({"data__target_length": 63}, "a divisor of the 4032 target tokens (train.batch_rows=64"),
        ({"train__accumulation_steps": 3},
         "config.train.accumulation_steps: found 3, accepted: a divisor of train.batch_rows=64"),
        ({"train__batch_rows": 7},
         "config.model.moe.group_size: found 512, accepted: a divisor of the 448 source tokens "
         "(train.batch_rows=7 x data.source_length=64), or train.batch_rows a multiple of 8"),
        ({"train__accumulation_steps": 16},
         "(train.batch_rows / train.accumulation_steps=4 x data.source_length=64), or "
         "train.batch_rows a multiple of 128"),
        ({"mesh__data": -1}, "config.mesh.expert: found -1, accepted: 1 or more (only one axis"),
        ({"mesh__data": 3},
         "config.train.batch_rows: found 64, accepted: a multiple of 3 (split over mesh.data=3)"),
        ({"mesh__data": 16, "train__accumulation_steps": 8},
         "config.train.batch_rows: found 64, accepted: a multiple of 128 (split over mesh.data"),
        ({"mesh__expert": 16},
         "config.model.moe.num_experts: found 8, accepted: a multiple of 16 (split over mesh.exp"),
        ({"mesh__data": 16},
         "config.model.moe.group_size: found 512, accepted: a size that cuts the 4096 source "
         "tokens (train.batch_rows=64 x data.source_length=64) into a multiple of 16 groups"),
        ({"mesh__model": 8}, "config.model.num_heads: found 4, accepted: a multiple of 8"),
        ({"mesh__data": 3, "train__batch_rows": 24, "mesh__shard_parameters": True},
         "config.model.model_dim: found 128, accepted: a multiple of 3"),
        ({"mesh__stage": 2}, "config.mesh.stage: found 2, accepted: 1 with experts"),
        ({"mesh__stage": 2, "model__moe__num_experts": 0, "model__num_layers": 6},
         "config.model.num_layers: found 6, accepted: a multiple of 4 (split over mesh.stage=2)"),
        ({"mesh__stage": 2, "model__moe__num_experts": 0, "model__num_decoder_layers": 1},
         "config.model.num_decoder_layers: found 1, accepted: a multiple of 2 (split over mesh.st"),
        ({"mesh__stage": 4, "model__moe__num_experts": 0, "model__num_decoder_layers": 4,
          "model__num_layers": 10},
         "config.model.num_layers: found 10, accepted: a multiple of 4 (split over mesh.stage=4)"),
    ],
)  # fmt: skip
def test_sizes_that_a_mesh_or_a_group_does_not_divide_are_refused(values, message):
    refused(changed(**values), message)


@pytest.mark.parametrize(
    "values, shape, message",
    [
        ({}, {"expert": 3}, "config.train.batch_rows: found 64, accepted: a multiple of 3"),
        ({"model__moe__num_experts": 6}, {"expert": 4},
         "config.model.moe.num_experts: found 6, accepted: a multiple of 4 (split over mesh.exp"),
        ({}, {"data": 2, "expert": 8}, "a multiple of 16 groups (split over mesh.data=2 x mesh.e"),
    ],
)  # fmt: skip
def test_an_axis_of_minus_1_is_checked_once_devices_are_known(values, shape, message):
    config = changed(**values)
    check(config)
    check(config, {"data": 1, "expert": 2, "model": 1})
    refused(config, message, {"data": 1, "expert": 1, "model": 1} | shape)


def refused(config: Config, message: str, shape=None) -> None:
    with pytest.raises(ConfigError) as raised:
        check(config, shape)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_accepted_names_are_those_of_the_tables_of_functions():
    assert GATES.keys() == STRATEGIES.keys()
    assert set(DISPATCH_NAMES) == {"auto", *DISPATCHES, DROPLESS}
    for remat in REMATS:
        check(changed(model__remat=remat))


def test_the_decoder_may_have_a_gate_of_its_own():
    moe = changed(model__moe__gate="expert_choice", model__moe__decoder_gate="top2").model.moe
    assert (moe.gate_of(is_decoder=False), moe.gate_of(is_decoder=True)) == (
        "expert_choice",
        "top2",
    )
    assert changed(model__moe__gate="top1").model.moe.gate_of(is_decoder=True) == "top1"
