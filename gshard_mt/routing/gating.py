"""Which experts see which tokens: gates are pure functions of one signature, listed in GATINGS."""
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Counters(NamedTuple):
    """Sums over all groups (int32 scalars), to be added up over layers and steps."""

    num_tokens: jax.Array  # real tokens, padding not counted
    num_over_capacity_1: jax.Array  # first choices that found their expert full
    num_over_capacity_2: jax.Array  # second choices that did (not those the draw rejected)
    num_to_0: jax.Array  # tokens sent to no expert: only the residual carries them
    num_to_1: jax.Array
    num_to_2: jax.Array


class Routing(NamedTuple):
    """The choices of every token. One with weight 0 is dropped, and its slot means nothing."""

    expert_GSK: jax.Array  # int32, in [0, E)
    slot_GSK: jax.Array  # int32, in [0, C) where the weight is not 0
    weight_GSK: jax.Array  # float32, carries the gradient of the gate
    aux_loss: jax.Array  # float32 scalar, 1 when routing is uniform
    counters: Counters


# gate(logits_GSE, is_token_GS, capacity, key or None) -> Routing
Gate = Callable[[jax.Array, jax.Array, int, jax.Array | None], Routing]


def top2(
    logits_GSE: jax.Array,
    is_token_GS: jax.Array,
    capacity: int,
    key: jax.Array | None,
    *,
    count_rejected: bool = False,
) -> Routing:
    """GShard's Algorithm 1 (section 2.2), every group at once; numbers at the steps are its lines.

    The second expert is drawn with probability 2 * g2, by `draw_uniform(key, ...)`; without a key
    there is no draw and it is used whenever there is room (and its gate didn't underflow to 0).
    A rejected draw takes no slot, as in Lingvo and Mesh TensorFlow; the algorithm as printed
    counts it, which `count_rejected` does. Padding (`is_token_GS` false) is never routed, takes no
    slot and counts in no mean. Of equal gates the lowest expert comes first. With one expert there
    is no second choice.
    """
    num_experts = logits_GSE.shape[-1]
    gates_GSE = jax.nn.softmax(logits_GSE.astype(jnp.float32))  # 2
    expert_1_GS, g1_GS, is_first_GSE = _take_largest(gates_GSE, gates_GSE)  # 5, 15
    rest_GSE = jnp.where(is_first_GSE, 0.0, gates_GSE)
    expert_2_GS, g2_GS, _ = _take_largest(jnp.where(is_first_GSE, -1.0, gates_GSE), rest_GSE)
    total_GS = g1_GS + g2_GS
    g1_GS, g2_GS = g1_GS / total_GS, g2_GS / total_GS  # 6, 16: before anything is dropped

    uniform_GS = 0.0 if key is None else draw_uniform(key, is_token_GS.shape)  # 17
    is_drawn_GS = is_token_GS & (2 * g2_GS > uniform_GS)  # 19
    is_wanted_GSK = jnp.stack([is_token_GS, is_drawn_GS], axis=-1)
    is_counted_GSK = is_token_GS[..., None] if count_rejected else is_wanted_GSK
    expert_GSK = jnp.stack([expert_1_GS, expert_2_GS], axis=-1)
    slot_GSK = _count_slots(expert_GSK, is_counted_GSK, num_experts)  # 7, 11, 18, 22
    is_kept_GSK = is_wanted_GSK & (slot_GSK < capacity)  # 8, 19
    weight_GSK = jnp.where(is_kept_GSK, jnp.stack([g1_GS, g2_GS], axis=-1), 0.0)  # 9, 20
    return Routing(
        expert_GSK,
        slot_GSK,
        weight_GSK,
        _balance_loss(gates_GSE, is_first_GSE, is_token_GS),
        _count(is_token_GS, is_wanted_GSK, is_kept_GSK),
    )


def top2_all(
    logits_GSE: jax.Array, is_token_GS: jax.Array, capacity: int, key: jax.Array | None
) -> Routing:
    """`top2` without draws: the second expert is used whenever there is room, in training too."""
    del key
    return top2(logits_GSE, is_token_GS, capacity, None)


GATINGS: dict[str, Gate] = {"top2": top2, "top2_all": top2_all}


def draw_uniform(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Returns the draws that second choices are held against; the same on every mesh."""
    return jax.random.uniform(key, shape, jnp.float32)


def _take_largest(score_GSE: jax.Array, gates_GSE: jax.Array) -> tuple[jax.Array, ...]:
    """Returns the expert with the largest score (the lowest of equals), its gate, and a one-hot.

    The gate is a masked sum, so that its gradient is elementwise and not a scatter.
    """
    expert_GS = jnp.argmax(score_GSE, axis=-1).astype(jnp.int32)
    is_it_GSE = jnp.arange(score_GSE.shape[-1], dtype=jnp.int32) == expert_GS[..., None]
    return expert_GS, jnp.sum(jnp.where(is_it_GSE, gates_GSE, 0.0), axis=-1), is_it_GSE


def _count_slots(expert_GSK: jax.Array, is_counted_GSK: jax.Array, num_experts: int) -> jax.Array:
    """Returns how many counted choices of the same expert come before each counted choice.

    The order is the paper's: all first choices in token order, then all second ones. A stable sort
    by expert, whose cost does not grow with E as a cumulative sum over one-hots does. What is
    returned for a choice that is not counted means nothing.
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


def _balance_loss(
    gates_GSE: jax.Array, is_first_GSE: jax.Array, is_token_GS: jax.Array
) -> jax.Array:
    """Line 13 in the scale of Lingvo and Mesh TensorFlow: E^2 times the printed one, 1 if uniform.

    Per group E * sum_e (c_e / S) * m_e, where S counts its real tokens; groups are averaged by
    their real tokens, so that a group of padding doesn't dilute the loss of the others.
    """
    is_token_GS1 = is_token_GS[..., None]
    count_GE = jnp.sum((is_first_GSE & is_token_GS1).astype(jnp.float32), axis=1)  # c_e
    gates_GE = jnp.sum(jnp.where(is_token_GS1, gates_GSE, 0.0), axis=1)  # 3: m_E * S
    tokens_G = jnp.sum(is_token_GS.astype(jnp.float32), axis=1)
    loss_G = gates_GSE.shape[-1] * jnp.sum(count_GE * gates_GE, axis=1) / jnp.maximum(tokens_G, 1.0)
    return jnp.sum(loss_G) / jnp.maximum(jnp.sum(tokens_G), 1.0)


def _count(is_token_GS: jax.Array, is_wanted_GSK: jax.Array, is_kept_GSK: jax.Array) -> Counters:
    num_kept_GS = jnp.sum(is_kept_GSK, axis=-1)
    over_K = jnp.sum(is_wanted_GSK & ~is_kept_GSK, axis=(0, 1), dtype=jnp.int32)
    num_to = [jnp.sum(is_token_GS & (num_kept_GS == n), dtype=jnp.int32) for n in range(3)]
    return Counters(jnp.sum(is_token_GS, dtype=jnp.int32), over_K[0], over_K[1], *num_to)
