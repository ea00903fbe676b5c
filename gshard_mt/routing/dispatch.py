"""Dispatch of tokens to expert slots and back, in two equal forms: gathers and one-hot einsums."""
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gshard_mt.routing.gathers import permute_tokens, unpermute_outputs
from gshard_mt.routing.routing import Routing

# Every function treats groups independently, so a mesh that splits G needs no communication here.
# A choice is dispatched if and only if its weight is positive; an empty slot holds zeros.


class Dispatch(NamedTuple):
    """One form: `dispatch(x_GSM, routing, E, C) -> x_GECM`, `combine(x_GECM, routing) -> x_GSM`."""

    dispatch: Callable[[jax.Array, Routing, int, int], jax.Array]
    combine: Callable[[jax.Array, Routing], jax.Array]


def dispatch_einsum(
    x_GSM: jax.Array, routing: Routing, num_experts: int, capacity: int
) -> jax.Array:
    """Algorithm 2's `GSEC,GSM->GECM` with the 0/1 mask; O(E * C) work per token."""
    is_dispatched_GSK = (routing.weight_GSK > 0).astype(jnp.float32)
    mask_GSEC = _combine_tensor(routing, is_dispatched_GSK, num_experts, capacity)
    return jnp.einsum("GSEC,GSM->GECM", mask_GSEC.astype(x_GSM.dtype), x_GSM)


def combine_einsum(x_GECM: jax.Array, routing: Routing) -> jax.Array:
    """Algorithm 2's `GSEC,GECM->GSM` with the gates as weights, summed in float32."""
    _, num_experts, capacity, _ = x_GECM.shape
    weight_GSK = jnp.where(routing.weight_GSK > 0, routing.weight_GSK, 0.0)
    combine_GSEC = _combine_tensor(routing, weight_GSK, num_experts, capacity)
    y_GSM = jnp.einsum("GSEC,GECM->GSM", combine_GSEC, x_GECM.astype(jnp.float32))
    return y_GSM.astype(x_GECM.dtype)


def dispatch_slots(
    x_GSM: jax.Array, routing: Routing, num_experts: int, capacity: int
) -> jax.Array:
    """Every slot gathers its token; the work depends on the number of slots, not on E."""
    x_GRM = permute_tokens(x_GSM, *_slot_tables(routing, num_experts, capacity))
    return x_GRM.reshape(x_GSM.shape[0], num_experts, capacity, x_GSM.shape[-1])


def combine_slots(x_GECM: jax.Array, routing: Routing) -> jax.Array:
    """Every token gathers its experts' outputs, weighted and summed in float32."""
    num_groups, num_experts, capacity, model_dim = x_GECM.shape
    x_GRM = x_GECM.reshape(num_groups, num_experts * capacity, model_dim)
    tables = _slot_tables(routing, num_experts, capacity)
    return unpermute_outputs(x_GRM, routing.weight_GSK, *tables)


DISPATCHES = {
    "slots": Dispatch(dispatch_slots, combine_slots),
    "einsum": Dispatch(dispatch_einsum, combine_einsum),
}

# The form that `auto` chooses. On CPUs a gather costs what it moves, whatever E (measured:
# docs/benchmarks.md). The other defaults are not measured: GPUs gather well; TPUs gather rows
# slowly and have the matrix unit for products with one-hots, which the paper relies on.
DEFAULTS = {"cpu": "slots", "gpu": "slots", "tpu": "einsum"}


def choose_dispatch(name: str, platform: str) -> str:
    """Returns the configured form, resolving `auto` for `cpu`, `gpu` or `tpu`."""
    return DEFAULTS.get(platform, "slots") if name == "auto" else name


def _combine_tensor(
    routing: Routing, value_GSK: jax.Array, num_experts: int, capacity: int
) -> jax.Array:
    """Returns `[G, S, E, C]` with the value of each choice at its expert and slot, else 0."""
    expert_GSKE = jax.nn.one_hot(routing.expert_GSK, num_experts) * value_GSK[..., None]
    slot_GSKC = jax.nn.one_hot(routing.slot_GSK, capacity)
    return jnp.einsum("GSKE,GSKC->GSEC", expert_GSKE, slot_GSKC)


def _slot_tables(routing: Routing, num_experts: int, capacity: int) -> tuple[jax.Array, jax.Array]:
    """Returns the tables of `gathers` whose rows are the E * C slots.

    When dispatch and combine are in one program the compiler builds the tables once.
    """
    num_groups, group_size, num_choices = routing.expert_GSK.shape
    num_rows = num_experts * capacity
    row_GSK = routing.expert_GSK * capacity + routing.slot_GSK
    row_GSK = jnp.where(routing.weight_GSK > 0, row_GSK, num_rows)
    choice_F = jnp.arange(group_size * num_choices, dtype=jnp.int32)

    def invert(row_F: jax.Array) -> jax.Array:
        empty_R = jnp.full(num_rows, group_size * num_choices, jnp.int32)
        return empty_R.at[row_F].set(choice_F, mode="drop")

    return row_GSK, jax.vmap(invert)(row_GSK.reshape(num_groups, -1))
