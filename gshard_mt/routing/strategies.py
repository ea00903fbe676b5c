"""What each gate takes and promises, and the names of the dispatches; without JAX."""
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Callable, Mapping
from typing import NamedTuple

DROPLESS = "dropless"  # has no slots: `routing.dropless`
DISPATCH_NAMES = ("auto", "slots", "einsum", DROPLESS)


class Strategy(NamedTuple):
    """The arguments that a gate is called with, and where it may be used."""

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

    @property
    def has_expert_groups(self) -> bool:
        """True: experts are in groups, `model.moe.num_expert_groups` of them."""
        return any(weight.endswith("A") for weight in self.products.values())


def _min_choices(num_choices: int, num_experts: int, num_expert_groups: int) -> int:
    return min(num_choices, num_experts)


def _choices_at_two_levels(num_choices: int, num_experts: int, num_expert_groups: int) -> int:
    return min(num_choices, num_expert_groups) * min(num_choices, num_experts // num_expert_groups)


STRATEGIES: dict[str, Strategy] = {
    "top2": Strategy(lambda k, e, a: min(2, e), options=("second_policy", "count_rejected")),
    "top1": Strategy(lambda k, e, a: 1),
    "top_k": Strategy(_min_choices, options=("num_choices",)),
    "noisy_top_k": Strategy(
        _min_choices,
        options=("num_choices",),
        products={"logits_GSE": "wg_ME", "noise_GSE": "wnoise_ME"},
        starts_at_zero=True,
    ),
    "hierarchical": Strategy(
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
    "expert_choice": Strategy(
        _min_choices, options=("num_choices", "capacity_factor"), is_causal=False
    ),
    "hash": Strategy(lambda k, e, a: 1, products={}),
}
