"""The reversed gate: every expert chooses its tokens, so that the load is even by design."""
# SPDX-License-Identifier: Apache-2.0

import jax
import jax.numpy as jnp

from gshard_mt.routing.capacity import expert_capacity
from gshard_mt.routing.routing import (
    GateInputs,
    Routing,
    take_along_experts,
    top_k_experts,
)


def expert_choice(inputs: GateInputs, *, num_choices: int, capacity_factor: float) -> Routing:
    """Zhou et al. 2022, section 3.2: each expert takes the n tokens of a group that score best.

    n is the factor times an even share of the group's real tokens (`expert_capacity` of them), at
    most C: given enough room, a group with more padding has the same routing. A token keeps at
    most K = min(num_choices, E) of the experts that chose it, those with its largest scores; with
    K = E the choice is the paper's. Ties go to the first token and the lowest expert. No balancing
    is needed: `aux_loss` is 0. The key is not used.

    Not causal: whether an expert takes a token depends on later ones, so not for a decoder.
    """
    is_token_GS = inputs.is_token_GS
    _, group_size, num_experts = inputs.logits_GSE.shape
    score_GSE = jax.nn.softmax(inputs.logits_GSE.astype(jnp.float32))  # S, equation 1
    # The share of an expert for each number of real tokens, from 0 to S.
    shares = [
        expert_capacity(max(n, 1), num_experts, capacity_factor) for n in range(group_size + 1)
    ]
    num_tokens_G = jnp.sum(is_token_GS, axis=1, dtype=jnp.int32)
    num_taken_G = jnp.minimum(jnp.asarray(shares, jnp.int32)[num_tokens_G], num_tokens_G)  # k
    num_slots = min(inputs.capacity, group_size)
    token_score_GES = jnp.where(is_token_GS[..., None], score_GSE, -1.0).swapaxes(1, 2)
    token_GEC = _sort_tokens(token_score_GES)[..., :num_slots]  # I
    slot_GSE = _invert(token_GEC, group_size).swapaxes(1, 2)
    num_taken_G11 = jnp.minimum(num_taken_G, num_slots)[:, None, None]
    is_taken_GSE = (slot_GSE < num_taken_G11) & is_token_GS[..., None] & (score_GSE > 0)  # P
    taken_score_GSE = jnp.where(is_taken_GSE, score_GSE, 0.0)
    expert_GSK = top_k_experts(taken_score_GSE, min(num_choices, num_experts))
    weight_GSK = take_along_experts(taken_score_GSE, expert_GSK)  # G
    slot_GSK = take_along_experts(slot_GSE, expert_GSK)
    return Routing(expert_GSK, slot_GSK, weight_GSK, weight_GSK > 0, jnp.zeros((), jnp.float32))


def _sort_tokens(score_GES: jax.Array) -> jax.Array:
    """Returns the tokens sorted by score; `lax.top_k` would gather groups on a mesh."""
    token_GES = jax.lax.broadcasted_iota(jnp.int32, score_GES.shape, 2)
    negative_GES = -jax.lax.stop_gradient(score_GES)
    return jax.lax.sort((negative_GES, token_GES), dimension=2, num_keys=1)[1]


def _invert(token_GEC: jax.Array, group_size: int) -> jax.Array:
    """Returns `[G, E, S]`, the slot of each token at each expert; C where it has none."""
    slot_C = jnp.arange(token_GEC.shape[-1], dtype=jnp.int32)

    def invert(token_C: jax.Array) -> jax.Array:
        empty_S = jnp.full(group_size, slot_C.size, jnp.int32)
        return empty_S.at[token_C].set(slot_C, unique_indices=True)

    return jax.vmap(jax.vmap(invert))(token_GEC)
