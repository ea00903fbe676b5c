"""Tokens to expert slots and back, in two forms that agree: gathers by slot, one-hot einsums."""
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gshard_mt.routing.gating import Routing

# Every function treats groups independently, so a mesh that splits G needs no communication here.
# A choice is dispatched if and only if its weight is more than 0; an empty slot is zeros.


class Dispatch(NamedTuple):
    """One form: `dispatch(x_GSM, routing, E, C) -> x_GECM`, `combine(x_GECM, routing) -> x_GSM`."""

    dispatch: Callable[[jax.Array, Routing, int, int], jax.Array]
    combine: Callable[[jax.Array, Routing], jax.Array]


def dispatch_einsum(
    x_GSM: jax.Array, routing: Routing, num_experts: int, capacity: int
) -> jax.Array:
    """Algorithm 2's `GSEC,GSM->GECM` with the 0/1 mask; O(E * C) work a token."""
    is_kept_GSK = (routing.weight_GSK > 0).astype(jnp.float32)
    mask_GSEC = _combine_tensor(routing, is_kept_GSK, num_experts, capacity)
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
    """Every slot fetches its token; the work does not grow with E beyond the slots there are."""
    place_GSK, choice_GP = _slot_tables(routing, num_experts, capacity)
    x_GPM = _fetch_tokens(x_GSM, place_GSK, choice_GP)
    return x_GPM.reshape(x_GSM.shape[0], num_experts, capacity, x_GSM.shape[-1])


def combine_slots(x_GECM: jax.Array, routing: Routing) -> jax.Array:
    """Every token fetches what its experts made of it, weighted and summed in float32."""
    num_groups, num_experts, capacity, model_dim = x_GECM.shape
    place_GSK, choice_GP = _slot_tables(routing, num_experts, capacity)
    x_GPM = x_GECM.reshape(num_groups, num_experts * capacity, model_dim)
    return _fetch_outputs(x_GPM, routing.weight_GSK, place_GSK, choice_GP)


DISPATCHES = {
    "slots": Dispatch(dispatch_slots, combine_slots),
    "einsum": Dispatch(dispatch_einsum, combine_einsum),
}


def _combine_tensor(
    routing: Routing, value_GSK: jax.Array, num_experts: int, capacity: int
) -> jax.Array:
    """Returns `[G, S, E, C]` with the value of each choice at its expert and slot, else 0."""
    expert_GSKE = jax.nn.one_hot(routing.expert_GSK, num_experts) * value_GSK[..., None]
    slot_GSKC = jax.nn.one_hot(routing.slot_GSK, capacity)
    return jnp.einsum("GSKE,GSKC->GSEC", expert_GSKE, slot_GSKC)


def _slot_tables(routing: Routing, num_experts: int, capacity: int) -> tuple[jax.Array, jax.Array]:
    """Returns the two integer tables that everything else is a gather by; P counts E * C places.

    `place_GSK`: the place of a choice, P if it was dropped. `choice_GP`: the choice s * K + k that
    a place holds, S * K if it is empty. An index past the end fetches zeros. When dispatch and
    combine are in one program the compiler makes the tables once.
    """
    num_groups, group_size, num_choices = routing.expert_GSK.shape
    num_places = num_experts * capacity
    place_GSK = routing.expert_GSK * capacity + routing.slot_GSK
    place_GSK = jnp.where(routing.weight_GSK > 0, place_GSK, num_places)
    choice_F = jnp.arange(group_size * num_choices, dtype=jnp.int32)

    def invert(place_F: jax.Array) -> jax.Array:
        empty_P = jnp.full(num_places, group_size * num_choices, jnp.int32)
        return empty_P.at[place_F].set(choice_F, mode="drop")

    return place_GSK, jax.vmap(invert)(place_GSK.reshape(num_groups, -1))


def _fetch(x_GNM: jax.Array, index_GI: jax.Array) -> jax.Array:
    """Returns rows of `x` within each group, zeros for an index past the end."""

    def fetch(x_NM: jax.Array, index_I: jax.Array) -> jax.Array:
        return x_NM.at[index_I].get(mode="fill", fill_value=0)

    return jax.vmap(fetch)(x_GNM, index_GI)


def _fetch_sum(x_GPM: jax.Array, place_GSK: jax.Array, weight_GSK: jax.Array) -> jax.Array:
    """Returns each token's weighted sum over its K places, added up in float32."""
    sum_GSM = jnp.zeros((), jnp.float32)
    for k in range(place_GSK.shape[-1]):
        x_GSM = _fetch(x_GPM, place_GSK[..., k]).astype(jnp.float32)
        sum_GSM = sum_GSM + weight_GSK[..., k, None] * x_GSM
    return sum_GSM.astype(x_GPM.dtype)


@jax.custom_vjp
def _fetch_tokens(x_GSM: jax.Array, place_GSK: jax.Array, choice_GP: jax.Array) -> jax.Array:
    return _fetch(x_GSM, choice_GP // place_GSK.shape[-1])


def _fetch_tokens_forward(x_GSM, place_GSK, choice_GP):
    return _fetch_tokens(x_GSM, place_GSK, choice_GP), place_GSK


def _fetch_tokens_backward(place_GSK, dx_GPM):
    # A token's gradient is fetched from its K places: JAX's own rule would scatter-add floats.
    dx_GSM = _fetch_sum(dx_GPM, place_GSK, jnp.ones(place_GSK.shape))
    return dx_GSM, None, None


_fetch_tokens.defvjp(_fetch_tokens_forward, _fetch_tokens_backward)


@jax.custom_vjp
def _fetch_outputs(
    x_GPM: jax.Array, weight_GSK: jax.Array, place_GSK: jax.Array, choice_GP: jax.Array
) -> jax.Array:
    return _fetch_sum(x_GPM, place_GSK, weight_GSK)


def _fetch_outputs_forward(x_GPM, weight_GSK, place_GSK, choice_GP):
    y_GSM = _fetch_outputs(x_GPM, weight_GSK, place_GSK, choice_GP)
    return y_GSM, (x_GPM, weight_GSK, place_GSK, choice_GP)


def _fetch_outputs_backward(residuals, dy_GSM):
    x_GPM, weight_GSK, place_GSK, choice_GP = residuals
    num_groups, _, num_choices = place_GSK.shape
    dy_GSM = dy_GSM.astype(jnp.float32)
    dweight_GSK = jnp.stack(
        [
            jnp.sum(_fetch(x_GPM, place_GSK[..., k]).astype(jnp.float32) * dy_GSM, axis=-1)
            for k in range(num_choices)
        ],
        axis=-1,
    )
    weight_GP = _fetch(weight_GSK.reshape(num_groups, -1, 1), choice_GP)
    dx_GPM = weight_GP * _fetch(dy_GSM, choice_GP // num_choices)
    return dx_GPM.astype(x_GPM.dtype), dweight_GSK, None, None


_fetch_outputs.defvjp(_fetch_outputs_forward, _fetch_outputs_backward)
