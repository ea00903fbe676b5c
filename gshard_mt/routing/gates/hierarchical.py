"""The two-level gate of the Sparsely-Gated MoE: groups of experts first, then experts in them."""
# SPDX-License-Identifier: Apache-2.0

import jax
import jax.numpy as jnp

from gshard_mt.routing.balance import squared_variation
from gshard_mt.routing.gates.noisy_top_k import choose_noisy
from gshard_mt.routing.routing import (
    GateInputs,
    Routing,
    assign_slots,
    take_along_experts,
)


def hierarchical(
    inputs: GateInputs,
    *,
    num_choices: int,
    noise_GSE: jax.Array,
    primary_GSA: jax.Array,
    primary_noise_GSA: jax.Array,
) -> Routing:
    """Shazeer et al. 2017, appendix B: noisy top-K over A groups, then over the experts of each.

    Group a consists of the experts e = a * J + j, J = E / A. Each level makes `num_choices`
    choices, or as many as there are, so a token has min(k, A) * min(k, J) choices: in slot order
    those of its first group, then those of its second. `aux_loss` is CV(Importance_H)^2 +
    CV(Load_H)^2 over the real tokens of all groups of tokens, before any drop.
    """
    logits_GSE, is_token_GS1 = inputs.logits_GSE, inputs.is_token_GS[..., None]
    num_groups = primary_GSA.shape[-1]
    group_size = logits_GSE.shape[-1] // num_groups  # J
    shape_GSAJ = (*primary_GSA.shape, group_size)
    keys = (None, None) if inputs.key is None else jax.random.split(inputs.key)
    group_GSK, primary_gates_GSA, primary_load_GSA = choose_noisy(
        primary_GSA, primary_noise_GSA, min(num_choices, num_groups), keys[0]
    )
    expert_GSAK, gates_GSAJ, load_GSAJ = choose_noisy(
        logits_GSE.reshape(shape_GSAJ),
        noise_GSE.reshape(shape_GSAJ),
        min(num_choices, group_size),
        keys[1],
    )
    gates_GSAJ = primary_gates_GSA[..., None] * gates_GSAJ  # 12: G_primary,i * G_i,j
    # The experts of each chosen group, [G, S, chosen groups, chosen experts]; then one axis.
    chosen = take_along_experts(expert_GSAK.swapaxes(2, 3), group_GSK[..., None, :]).swapaxes(2, 3)
    chosen = group_GSK[..., None] * group_size + chosen
    expert_GSK = chosen.reshape(*inputs.is_token_GS.shape, -1)
    weight_GSK = take_along_experts(gates_GSAJ.reshape(logits_GSE.shape), expert_GSK)

    is_in_GSA = is_token_GS1 & (primary_gates_GSA > 0)  # x in X^(i)
    importance_AJ = jnp.sum(jnp.where(is_token_GS1[..., None], gates_GSAJ, 0.0), axis=(0, 1))  # 13
    primary_load_A = jnp.sum(jnp.where(is_token_GS1, primary_load_GSA, 0.0), axis=(0, 1))
    load_AJ = jnp.sum(jnp.where(is_in_GSA[..., None], load_GSAJ, 0.0), axis=(0, 1))
    num_in_A = jnp.maximum(jnp.sum(is_in_GSA, axis=(0, 1), dtype=jnp.float32), 1.0)
    load_AJ = (primary_load_A / num_in_A)[:, None] * load_AJ  # 14
    aux_loss = squared_variation(importance_AJ) + squared_variation(load_AJ)
    return assign_slots(inputs, expert_GSK, weight_GSK, aux_loss)
