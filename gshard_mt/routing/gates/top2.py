"""The gate of GShard: two experts per token, the second drawn with a probability of 2 g2."""
# SPDX-License-Identifier: Apache-2.0

import jax
import jax.numpy as jnp

from gshard_mt.routing.balance import balance_loss
from gshard_mt.routing.routing import (
    GateInputs,
    Routing,
    is_expert,
    position_in_expert,
    take_along_experts,
    top_k_experts,
)


def top2(
    inputs: GateInputs, *, second_policy: str = "random", count_rejected: bool = False
) -> Routing:
    """GShard's Algorithm 1 (section 2.2) for all groups at once; comments give its line numbers.

    The second expert is drawn with probability 2 * g2; without a key or with `second_policy="all"`
    it is used whenever it has room (and its gate did not underflow to 0). A rejected draw takes no
    slot, as in Lingvo and Mesh TensorFlow; the algorithm as printed counts it, and so does
    `count_rejected`. Padding is never routed, takes no slot and counts in no mean. Ties go to the
    lowest expert. With one expert there is no second choice. `aux_loss` is 1 if routing is uniform.
    """
    is_token_GS, num_experts = inputs.is_token_GS, inputs.logits_GSE.shape[-1]
    gates_GSE = jax.nn.softmax(inputs.logits_GSE.astype(jnp.float32))  # 2
    expert_GSK = top_k_experts(gates_GSE, 2)  # 5, 15
    is_first_GSE = is_expert(expert_GSK[..., 0], num_experts)
    g1_GS, g2_GS = jnp.unstack(take_along_experts(gates_GSE, expert_GSK), axis=-1)
    if num_experts == 1:
        g2_GS = jnp.zeros_like(g2_GS)
    total_GS = g1_GS + g2_GS
    g1_GS, g2_GS = g1_GS / total_GS, g2_GS / total_GS  # 6, 16: before anything is dropped

    key = None if second_policy == "all" else inputs.key
    uniform_GS = 0.0 if key is None else jax.random.uniform(key, is_token_GS.shape)  # 17
    is_drawn_GS = is_token_GS & (2 * g2_GS > uniform_GS)  # 19
    is_selected_GSK = jnp.stack([is_token_GS, is_drawn_GS], axis=-1)
    is_counted_GSK = is_token_GS[..., None] if count_rejected else is_selected_GSK
    slot_GSK = position_in_expert(expert_GSK, is_counted_GSK, num_experts)  # 7, 11, 18, 22
    is_dispatched_GSK = is_selected_GSK & (slot_GSK < inputs.capacity)  # 8, 19
    weight_GSK = jnp.where(is_dispatched_GSK, jnp.stack([g1_GS, g2_GS], axis=-1), 0.0)  # 9, 20
    aux_loss = balance_loss(gates_GSE, is_first_GSE, is_token_GS)  # 3, 13
    return Routing(expert_GSK, slot_GSK, weight_GSK, is_selected_GSK, aux_loss)
