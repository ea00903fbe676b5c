"""Settings of `model.moe` that can't work together are refused by their key."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses

import pytest

from gshard_mt.config.records import ModelConfig, MoeConfig
from gshard_mt.errors import ConfigError
from gshard_mt.model.moe_checks import check_moe, gate_of
from gshard_mt.routing.gating import GATINGS


def model(**values) -> ModelConfig:
    return ModelConfig(moe=dataclasses.replace(MoeConfig(), **values))


@pytest.mark.parametrize(
    "values",
    [
        *({"gate": gate} for gate in set(GATINGS) - {"hierarchical", "expert_choice"}),
        {"gate": "hierarchical", "num_expert_groups": 4},
        {"gate": "expert_choice", "decoder_gate": "top2"},
        {"gate": "top_k", "num_choices": 3, "dispatch": "dropless"},
        {"gate": "hash", "decoder_gate": "top1", "z_loss_weight": 0.1},
        {"all_to_all_dtype": "int8", "all_to_all_chunks": 4},
    ],
)
def test_settings_that_work_are_accepted(values):
    check_moe(model(**values))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"gate": "top3"}, "config.model.moe.gate: found 'top3'; did you mean top"),
        ({"decoder_gate": "hsh"}, "config.model.moe.decoder_gate: found 'hsh'; did you mean hash?"),
        ({"dispatch": "slot"}, "config.model.moe.dispatch: found 'slot'; did you mean slots?"),
        ({"gate": "expert_choice"},
         "found 'expert_choice', which lets a token depend on later"),
        ({"gate": "expert_choice", "decoder_gate": "top2", "dispatch": "dropless"},
         "config.model.moe.dispatch: found 'dropless' with gate expert_choice"),
        ({"gate": "top1", "second_policy": "all"},
         "config.model.moe.second_policy: found 'all', which gate top1 does not take"),
        ({"num_choices": 3}, "found 3, which gate top2 does not take"),
        ({"gate": "top_k", "num_choices": 9}, "found 9, accepted: 1 to model.moe.num_experts=8"),
        ({"gate": "hierarchical"}, "moe.num_expert_groups: found 0, accepted"),
        ({"gate": "hierarchical", "num_expert_groups": 3}, "found 3, accepted: a divisor"),
        ({"num_expert_groups": 4}, "found 4, accepted: 0, or gate hierarchical"),
        ({"gate": "hash", "z_loss_weight": 0.1}, "config.model.moe.z_loss_weight: found 0.1"),
        ({"gate": "hash", "router_jitter": 0.1}, "config.model.moe.router_jitter: found 0.1"),
        ({"dispatch": "dropless", "all_to_all_dtype": "int8"},
         "config.model.moe.all_to_all_dtype: found 'int8', accepted: 'same'"),
        ({"dispatch": "dropless", "all_to_all_chunks": 2}, "found 2, accepted: 1"),
    ],
)  # fmt: skip
def test_settings_that_cannot_apply_are_refused(values, message):
    with pytest.raises(ConfigError) as raised:
        check_moe(model(**values))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_decoder_may_have_a_gate_of_its_own():
    config = model(gate="expert_choice", decoder_gate="top2")
    assert (gate_of(config, is_decoder=False), gate_of(config, is_decoder=True)) == (
        "expert_choice",
        "top2",
    )
    assert gate_of(model(gate="top1"), is_decoder=True) == "top1"
