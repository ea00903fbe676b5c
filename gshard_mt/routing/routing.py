"""A routing (which experts each token goes to) and the steps that gates share."""
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp


class GateInputs(NamedTuple):
    """What every gate receives."""

    logits_GSE: jax.Array  # of any float type; gates compute in float32
    is_token_GS: jax.Array  # False is padding
    token_id_GS: jax.Array  # subword ids
    capacity: int  # C
    key: jax.Array | None  # None: no random choices


class Routing(NamedTuple):
    """The choices of every token. A choice is dispatched if and only if its weight is positive.

    A selected choice of weight 0 found its expert full. The slot of a choice that is not dispatched
    is undefined, and so is the expert of one that is not selected.
    """

    expert_GSK: jax.Array  # int32, in [0, E); a token's dispatched choices differ
    slot_GSK: jax.Array  # int32, in [0, C) where the weight is not 0
    weight_GSK: jax.Array  # float32, carries the gradient of the gate
    is_selected_GSK: jax.Array  # bool: chosen by the gate, before capacity; never padding
    aux_loss: jax.Array  # float32 scalar to add to the loss; each gate has its own scale


# gate(inputs, **options and further products of `strategies.Strategy`) -> Routing
Gate = Callable[..., Routing]


def top_k_experts(score_E: jax.Array, num_choices: int) -> jax.Array:
    """Returns `[..., K]`, the experts with the largest scores; ties go to the lowest expert.

    K passes over E, which need no communication on a mesh that splits the leading axes. On a CPU
    a plain maximum is many times faster than `argmax` or than a maximum fused with a comparison:
    hence the barriers.
    """
    num_experts = score_E.shape[-1]
    expert_E = jnp.arange(num_experts, dtype=jnp.int32)
    experts = []
    for _ in range(num_choices):
        is_largest_E = score_E == jnp.max(score_E, axis=-1, keepdims=True)
        from_end_E = jnp.where(is_largest_E, (num_experts - expert_E).astype(jnp.float32), 0.0)
        from_end = jnp.max(jax.lax.optimization_barrier(from_end_E), axis=-1).astype(jnp.int32)
        experts.append(num_experts - jnp.maximum(from_end, 1))  # NaN equals nothing: the last
        is_chosen_E = expert_E == experts[-1][..., None]
        score_E = jax.lax.optimization_barrier(jnp.where(is_chosen_E, -jnp.inf, score_E))
    return jnp.stack(experts, axis=-1)


def is_expert(expert_K: jax.Array, num_experts: int) -> jax.Array:
    """Returns `[..., K, E]`, the one-hot mask of each choice's expert."""
    return expert_K[..., None] == jnp.arange(num_experts, dtype=jnp.int32)


@jax.custom_vjp
def take_along_experts(value_E: jax.Array, expert_K: jax.Array) -> jax.Array:
    """Returns `[..., K]`, the values at the chosen experts.

    The gradient is elementwise, where JAX's own rule for a gather would scatter.
    """
    return jnp.take_along_axis(value_E, expert_K, axis=-1)


def _take_forward(value_E, expert_K):
    expert_E = jnp.arange(value_E.shape[-1], dtype=jnp.int32)
    return take_along_experts(value_E, expert_K), (expert_K, expert_E)


def _take_backward(residuals, dvalue_K):
    expert_K, expert_E = residuals
    zero = jnp.zeros((), dvalue_K.dtype)
    dvalue_E = zero
    for k in range(expert_K.shape[-1]):
        is_it_E = expert_K[..., k, None] == expert_E
        dvalue_E = dvalue_E + jnp.where(is_it_E, dvalue_K[..., k, None], zero)
    return dvalue_E, None


take_along_experts.defvjp(_take_forward, _take_backward)


def position_in_expert(
    expert_GSK: jax.Array, is_counted_GSK: jax.Array, num_experts: int
) -> jax.Array:
    """Returns for each counted choice how many counted choices of its expert precede it.

    The order is GShard's: all first choices in token order, then all second choices, and so on. A
    stable sort by expert, whose cost does not grow with E as that of a cumulative sum over
    one-hots does. Undefined for choices that are not counted.
    """
    num_groups, group_size, num_choices = expert_GSK.shape
    expert_GSK = jnp.where(is_counted_GSK, expert_GSK, num_experts)
    expert_GF = expert_GSK.swapaxes(1, 2).reshape(num_groups, group_size * num_choices)
    rank_F = jnp.arange(expert_GF.shape[1], dtype=jnp.int32)
    choice_GF = jnp.broadcast_to(rank_F, expert_GF.shape)
    expert_GF, choice_GF = jax.lax.sort((expert_GF, choice_GF), dimension=1, num_keys=1)
    is_start_GF = jnp.diff(expert_GF, axis=1, prepend=-1) != 0
    start_GF = jax.lax.cummax(jnp.where(is_start_GF, rank_F, 0), axis=1)
    slot_GF = jax.vmap(lambda choice_F, slot_F: jnp.zeros_like(slot_F).at[choice_F].set(slot_F))(
        choice_GF, rank_F - start_GF
    )
    return slot_GF.reshape(num_groups, num_choices, group_size).swapaxes(1, 2)


def assign_slots(
    inputs: GateInputs, expert_GSK: jax.Array, weight_GSK: jax.Array, aux_loss: jax.Array
) -> Routing:
    """Returns the routing that selects all choices of positive weight, in GShard's slot order.

    Padding is never routed and takes no slot. A weight that underflows to 0 selects nothing.
    """
    is_selected_GSK = inputs.is_token_GS[..., None] & (weight_GSK > 0)
    slot_GSK = position_in_expert(expert_GSK, is_selected_GSK, inputs.logits_GSE.shape[-1])
    weight_GSK = jnp.where(is_selected_GSK & (slot_GSK < inputs.capacity), weight_GSK, 0.0)
    return Routing(expert_GSK, slot_GSK, weight_GSK, is_selected_GSK, aux_loss)
