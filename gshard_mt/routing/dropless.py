"""Experts without slots: choices sorted by expert, one product over all groups, nothing dropped."""
# SPDX-License-Identifier: Apache-2.0

from typing import NamedTuple

import jax
import jax.numpy as jnp


class SortedChoices(NamedTuple):
    """The tables of `gathers` for choices sorted by expert, and the number of each expert's rows.

    All tokens are one group.
    """

    row_SK: jax.Array  # the row of a choice; R = S * K if its expert is not here
    choice_R: jax.Array  # the choice s * K + k of a row; R past the last expert's rows
    size_E: jax.Array  # rows of each expert, in the order of experts


class RoundTables(NamedTuple):
    """The tables of `gathers` for the rows that one round sends, those of each device together."""

    row_SK: jax.Array  # R if the choice is in another round, or not dispatched
    choice_R: jax.Array  # S * K in an empty row


def sort_choices(
    expert_SK: jax.Array, is_dispatched_SK: jax.Array, num_experts: int
) -> SortedChoices:
    """Sorts choices by expert, those of one expert in token order.

    A choice that is not dispatched, or whose expert is not in [0, E) (it may be on another device),
    gets no row.
    """
    num_rows = expert_SK.size
    is_here_SK = is_dispatched_SK & (expert_SK >= 0) & (expert_SK < num_experts)
    expert_F = jnp.where(is_here_SK, expert_SK, num_experts).reshape(-1).astype(jnp.int32)
    index_F = jnp.arange(num_rows, dtype=jnp.int32)
    expert_R, choice_R = jax.lax.sort((expert_F, index_F), num_keys=1)
    row_F = jnp.zeros_like(index_F).at[choice_R].set(index_F, unique_indices=True)
    row_SK = jnp.where(is_here_SK, row_F.reshape(expert_SK.shape), num_rows)
    end_E = jnp.searchsorted(expert_R, jnp.arange(num_experts, dtype=jnp.int32), side="right")
    size_E = jnp.diff(end_E, prepend=0).astype(jnp.int32)
    return SortedChoices(row_SK, jnp.where(expert_R < num_experts, choice_R, num_rows), size_E)


def round_tables(
    choices: SortedChoices, size_I: jax.Array, room: int, number: int | jax.Array
) -> RoundTables:
    """Returns the tables of one round of rows to I devices, each of which has the next experts.

    `size_I` is the number of choices that go to each device, `room` the rows that it gets in every
    round, of which the first is 0.
    """
    num_choices = choices.choice_R.size
    end_I = jnp.cumsum(size_I)
    start_I = end_I - size_I + number * room
    index_IR = start_I[:, None] + jnp.arange(room)
    choice_IR = choices.choice_R.at[index_IR].get(mode="fill", fill_value=num_choices)
    choice_IR = jnp.where(index_IR < end_I[:, None], choice_IR, num_choices)
    device_SK = jnp.searchsorted(end_I, choices.row_SK, side="right")
    place_SK = choices.row_SK - start_I.at[device_SK].get(mode="clip")
    is_here_SK = (device_SK < size_I.size) & (place_SK >= 0) & (place_SK < room)
    row_SK = jnp.where(is_here_SK, device_SK * room + place_SK, choice_IR.size)
    return RoundTables(row_SK, choice_IR.reshape(-1))
