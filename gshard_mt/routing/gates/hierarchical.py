"""The two-level gate of the Sparsely-Gated MoE: groups of experts first, then experts in them."""
# SPDX-License-Identifier: Apache-2.0

import jax
import jax.numpy as jnp

from gshard_mt.errors import ConfigError
from gshard_mt.routing.balance import squared_variation
from gshard_mt.routing.gates.noisy_top_k import choose_noisy
from gshard_mt.routing.routing import Routing, check_num_choices, count_slots, pick


def hierarchical(
    logits_GSE: jax.Array,
    is_token_GS: jax.Array,
    capacity: int,
    key: jax.Array | None,
    *,
    num_choices: int,
    primary_GSA: jax.Array,
    noise_GSE: jax.Array,
    primary_noise_GSA: jax.Array,
) -> Routing:
    """Shazeer et al. 2017, appendix B: noisy top-K over A groups, then over the experts of each.

    The experts e = a * J + j of group a lie side by side, J = E / A. At each level `num_choices`
    are made, or all where there are fewer, so a token has min(k, A) * min(k, J) choices: in slot
    order those of its first group, then those of its second. `aux_loss` is CV(Importance_H)^2 +
    CV(Load_H)^2 over the real tokens of all groups of tokens, before any drop. Padding is never
    routed, takes no slot and counts in no sum. A weight that underflows to 0 is not wanted.
    """
    num_experts, num_parts = logits_GSE.shape[-1], primary_GSA.shape[-1]
    check_num_choices(num_choices, num_experts)
    check_num_expert_groups(num_parts, num_experts)
    size = num_experts // num_parts  # J
    to_GSAJ = (*is_token_GS.shape, num_parts, size)
    keys = (None, None) if key is None else jax.random.split(key)
    part_GSI, part_gates_GSA, part_load_GSA = choose_noisy(
        primary_GSA, primary_noise_GSA, min(num_choices, num_parts), keys[0]
    )
    expert_GSAK, gates_GSAJ, load_GSAJ = choose_noisy(
        logits_GSE.reshape(to_GSAJ), noise_GSE.reshape(to_GSAJ), min(num_choices, size), keys[1]
    )
    gates_GSAJ = part_gates_GSA[..., None] * gates_GSAJ  # equation 12: G_primary,i * G_i,j
    # [G, S, I, K]: the experts of each chosen group, then one axis for both ranks.
    expert_GSK = pick(expert_GSAK.swapaxes(2, 3), part_GSI[..., None, :]).swapaxes(2, 3)
    expert_GSK = (part_GSI[..., None] * size + expert_GSK).reshape(*is_token_GS.shape, -1)
    weight_GSK = pick(gates_GSAJ.reshape(logits_GSE.shape), expert_GSK)
    is_wanted_GSK = is_token_GS[..., None] & (weight_GSK > 0)
    slot_GSK = count_slots(expert_GSK, is_wanted_GSK, num_experts)
    weight_GSK = jnp.where(is_wanted_GSK & (slot_GSK < capacity), weight_GSK, 0.0)

    is_token_GS1 = is_token_GS[..., None]
    is_in_GSA = is_token_GS1 & (part_gates_GSA > 0)  # x in X^(i)
    importance_AJ = jnp.sum(jnp.where(is_token_GS1[..., None], gates_GSAJ, 0.0), axis=(0, 1))  # 13
    part_load_A = jnp.sum(jnp.where(is_token_GS1, part_load_GSA, 0.0), axis=(0, 1))
    load_AJ = jnp.sum(jnp.where(is_in_GSA[..., None], load_GSAJ, 0.0), axis=(0, 1))
    num_in_A = jnp.maximum(jnp.sum(is_in_GSA, axis=(0, 1), dtype=jnp.float32), 1.0)
    load_AJ = (part_load_A / num_in_A)[:, None] * load_AJ  # 14
    aux_loss = squared_variation(importance_AJ) + squared_variation(load_AJ)
    return Routing(expert_GSK, slot_GSK, weight_GSK, is_wanted_GSK, aux_loss)


def check_num_expert_groups(num_expert_groups: int, num_experts: int) -> None:
    """Refuses a number of groups that the experts can't be parted into evenly."""
    if num_expert_groups < 1 or num_experts % num_expert_groups:
        raise ConfigError(
            f"model.moe.num_expert_groups = {num_expert_groups}: must divide model.num_experts = "
            f"{num_experts}"
        )
