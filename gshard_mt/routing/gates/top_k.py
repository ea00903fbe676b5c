"""The gate that takes the K largest logits; with K = 1 it is the Switch Transformer's."""
# SPDX-License-Identifier: Apache-2.0

import jax
import jax.numpy as jnp

from gshard_mt.routing.balance import balance_loss
from gshard_mt.routing.routing import (
    GateInputs,
    Routing,
    assign_slots,
    is_expert,
    take_along_experts,
    top_k_experts,
)


def top1(inputs: GateInputs) -> Routing:
    """The Switch Transformer's gate (Fedus, Zoph and Shazeer 2021, section 2.1): `top_k` of one.

    Its input jitter is applied before the logits (`model.moe.router_jitter`), not here.
    """
    return top_k(inputs, num_choices=1)


def top_k(inputs: GateInputs, *, num_choices: int) -> Routing:
    """Routes to the K largest logits (as Mixtral, equation 4), with GShard's slots and loss.

    With K of 2 or more the weights are the softmax of the K chosen logits, that is, the gates
    normalized before anything is dropped. A single choice has the gate over all E as its weight
    (Switch, equation 2): normalized, it would be 1 and have no gradient. The loss counts first
    choices, as in Algorithm 1, and is 1 if routing is uniform; padding counts in no mean. The key
    is not used.
    """
    num_experts = inputs.logits_GSE.shape[-1]
    logits_GSE = inputs.logits_GSE.astype(jnp.float32)
    gates_GSE = jax.nn.softmax(logits_GSE)  # Switch, equation 1
    expert_GSK = top_k_experts(logits_GSE, num_choices)
    if num_choices == 1:
        weight_GSK = take_along_experts(gates_GSE, expert_GSK)  # Switch, equation 2
    else:  # Mixtral, equation 4
        weight_GSK = jax.nn.softmax(take_along_experts(logits_GSE, expert_GSK))
    is_first_GSE = is_expert(expert_GSK[..., 0], num_experts)
    aux_loss = balance_loss(gates_GSE, is_first_GSE, inputs.is_token_GS)  # Switch, equation 4
    return assign_slots(inputs, expert_GSK, weight_GSK, aux_loss)
