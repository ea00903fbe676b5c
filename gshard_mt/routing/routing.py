"""A routing: which experts every token goes to, and the steps that the gates have in common."""
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gshard_mt.errors import ConfigError


class Routing(NamedTuple):
    """The choices of every token. One is dispatched if and only if its weight is more than 0.

    A wanted choice with weight 0 found its expert full. The slot of a choice that is not
    dispatched means nothing, nor does the expert of one that is not wanted.
    """

    expert_GSK: jax.Array  # int32, in [0, E); a token's dispatched choices differ
    slot_GSK: jax.Array  # int32, in [0, C) where the weight is not 0
    weight_GSK: jax.Array  # float32, carries the gradient of the gate
    is_wanted_GSK: jax.Array  # bool: what the gate asked for, before capacity; never for padding
    aux_loss: jax.Array  # float32 scalar, to be added to the loss; its scale is the gate's


# gate(logits_GSE, is_token_GS, capacity, key or None, **options) -> Routing
Gate = Callable[..., Routing]


def draw_uniform(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Returns the draws from [0, 1) that choices are held against; the same on every mesh."""
    return jax.random.uniform(key, shape, jnp.float32)


def draw_normal(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Returns standard normal noise for logits; the same on every mesh."""
    return jax.random.normal(key, shape, jnp.float32)


def check_num_choices(num_choices: int, num_experts: int) -> None:
    """Refuses a number of choices that a token can't make among different experts."""
    if not 1 <= num_choices <= num_experts:
        raise ConfigError(
            f"model.moe.num_choices = {num_choices}: must be from 1 to model.num_experts = "
            f"{num_experts}, since a token goes to an expert once"
        )


def find_largest(score_E: jax.Array, num_choices: int) -> jax.Array:
    """Returns `[..., K]`, the experts with the largest scores; the lowest of equals comes first.

    K passes over E, which a mesh that splits the leading axes needs no communication for. On a
    CPU a plain maximum is many times quicker than `argmax`, or than one fused with a comparison:
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
    """Returns `[..., K, E]`, true at the expert of each choice."""
    return expert_K[..., None] == jnp.arange(num_experts, dtype=jnp.int32)


@jax.custom_vjp
def pick(value_E: jax.Array, expert_K: jax.Array) -> jax.Array:
    """Returns `[..., K]`, the values at the chosen experts.

    The gradient is elementwise, where JAX's own rule for a gather would scatter.
    """
    return jnp.take_along_axis(value_E, expert_K, axis=-1)


def _pick_forward(value_E, expert_K):
    return pick(value_E, expert_K), (expert_K, jnp.arange(value_E.shape[-1], dtype=jnp.int32))


def _pick_backward(residuals, dvalue_K):
    expert_K, expert_E = residuals
    zero = jnp.zeros((), dvalue_K.dtype)
    dvalue_E = zero
    for k in range(expert_K.shape[-1]):
        is_it_E = expert_K[..., k, None] == expert_E
        dvalue_E = dvalue_E + jnp.where(is_it_E, dvalue_K[..., k, None], zero)
    return dvalue_E, None


pick.defvjp(_pick_forward, _pick_backward)


def count_slots(expert_GSK: jax.Array, is_counted_GSK: jax.Array, num_experts: int) -> jax.Array:
    """Returns how many counted choices of the same expert come before each counted choice.

    The order is GShard's: all first choices in token order, then all second ones, and so on. A
    stable sort by expert, whose cost does not grow with E as a cumulative sum over one-hots does.
    What is returned for a choice that is not counted means nothing.
    """
    num_groups, group_size, num_choices = expert_GSK.shape
    num_places = group_size * num_choices
    expert_GSK = jnp.where(is_counted_GSK, expert_GSK, num_experts)
    expert_GP = expert_GSK.swapaxes(1, 2).reshape(num_groups, num_places)
    place_GP = jnp.broadcast_to(jnp.arange(num_places, dtype=jnp.int32), expert_GP.shape)
    expert_GP, place_GP = jax.lax.sort((expert_GP, place_GP), dimension=1, num_keys=1)
    rank_P = jnp.arange(num_places, dtype=jnp.int32)
    is_start_GP = jnp.diff(expert_GP, axis=1, prepend=-1) != 0
    start_GP = jax.lax.cummax(jnp.where(is_start_GP, rank_P, 0), axis=1)
    slot_GP = jax.vmap(lambda place_P, slot_P: jnp.zeros_like(slot_P).at[place_P].set(slot_P))(
        place_GP, rank_P - start_GP
    )
    return slot_GP.reshape(num_groups, num_choices, group_size).swapaxes(1, 2)
