"""The table of gating strategies: what each gate takes and what a model must know about it."""
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Callable, Mapping
from typing import NamedTuple

from gshard_mt.routing.gates.expert_choice import expert_choice
from gshard_mt.routing.gates.hashed import hashed
from gshard_mt.routing.gates.hierarchical import hierarchical
from gshard_mt.routing.gates.noisy_top_k import noisy_top_k
from gshard_mt.routing.gates.top2 import top2
from gshard_mt.routing.gates.top_k import top1, top_k
from gshard_mt.routing.routing import Gate


class Gating(NamedTuple):
    """One strategy: its gate, the arguments to call it with, and where it may be used."""

    gate: Gate
    # (num_choices, num_experts, num_expert_groups) -> the most experts that a token goes to
    max_experts: Callable[[int, int, int], int]
    options: tuple[str, ...] = ()  # keys of `model.moe` that it takes as keyword arguments
    # The products with the tokens that it takes: the logits of its inputs and further keyword
    # arguments, each with the name of its weight, which ends in the weight's letters.
    products: Mapping[str, str] = {"logits_GSE": "wg_ME"}
    is_causal: bool = True  # False: later tokens change the routing of an earlier one
    starts_at_zero: bool = False  # the initial weights of all products are zero

    @property
    def has_logits(self) -> bool:
        """False: only the shape of the logits is used."""
        return "logits_GSE" in self.products


def _min_choices(num_choices: int, num_experts: int, num_expert_groups: int) -> int:
    return min(num_choices, num_experts)


def _choices_at_two_levels(num_choices: int, num_experts: int, num_expert_groups: int) -> int:
    return min(num_choices, num_expert_groups) * min(num_choices, num_experts // num_expert_groups)


GATINGS: dict[str, Gating] = {
    "top2": Gating(top2, lambda k, e, a: min(2, e), options=("second_policy", "count_rejected")),
    "top1": Gating(top1, lambda k, e, a: 1),
    "top_k": Gating(top_k, _min_choices, options=("num_choices",)),
    "noisy_top_k": Gating(
        noisy_top_k,
        _min_choices,
        options=("num_choices",),
        products={"logits_GSE": "wg_ME", "noise_GSE": "wnoise_ME"},
        starts_at_zero=True,
    ),
    "hierarchical": Gating(
        hierarchical,
        _choices_at_two_levels,
        options=("num_choices",),
        products={
            "logits_GSE": "wg_ME",
            "noise_GSE": "wnoise_ME",
            "primary_GSA": "wprimary_MA",
            "primary_noise_GSA": "wprimary_noise_MA",
        },
        starts_at_zero=True,
    ),
    "expert_choice": Gating(
        expert_choice, _min_choices, options=("num_choices", "capacity_factor"), is_causal=False
    ),
    "hash": Gating(hashed, lambda k, e, a: 1, products={}),
}
