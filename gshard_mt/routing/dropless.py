"""Experts without slots: choices sorted by expert, one product over all groups, nothing dropped."""
# SPDX-License-Identifier: Apache-2.0

from typing import NamedTuple

import jax
import jax.numpy as jnp


class SortedChoices(NamedTuple):
    """The tables of `places` for choices sorted by expert, and how many each expert has."""

    place_NK: jax.Array  # the row of a choice; F = N * K if it has no expert here
    choice_F: jax.Array  # the choice n * K + k of a row; F past the last expert's rows
    size_E: jax.Array  # rows of each expert, one expert after the other


def sort_choices(expert_NK: jax.Array, is_sent_NK: jax.Array, num_experts: int) -> SortedChoices:
    """Sorts choices by expert, those of one expert in the order of tokens.

    A choice that is not sent, or whose expert is not one of [0, E) (it may live on another device),
    gets no row.
    """
    num_rows = expert_NK.size
    is_here_NK = is_sent_NK & (expert_NK >= 0) & (expert_NK < num_experts)
    expert_F = jnp.where(is_here_NK, expert_NK, num_experts).reshape(-1).astype(jnp.int32)
    row_F = jnp.arange(num_rows, dtype=jnp.int32)
    expert_F, choice_F = jax.lax.sort((expert_F, row_F), num_keys=1)
    place_F = jnp.zeros_like(row_F).at[choice_F].set(row_F, unique_indices=True)
    place_NK = jnp.where(is_here_NK, place_F.reshape(expert_NK.shape), num_rows)
    end_E = jnp.searchsorted(expert_F, jnp.arange(num_experts, dtype=jnp.int32), side="right")
    size_E = jnp.diff(end_E, prepend=0).astype(jnp.int32)
    return SortedChoices(place_NK, jnp.where(expert_F < num_experts, choice_F, num_rows), size_E)
