"""The K experts with the largest gates, without any draw; one of them is the Switch Transformer."""
# SPDX-License-Identifier: Apache-2.0

import jax
import jax.numpy as jnp

from gshard_mt.routing.balance import balance_loss
from gshard_mt.routing.routing import (
    Routing,
    check_num_choices,
    count_slots,
    find_largest,
    is_expert,
    pick,
)


def top1(
    logits_GSE: jax.Array, is_token_GS: jax.Array, capacity: int, key: jax.Array | None
) -> Routing:
    """The Switch Transformer's gate (Fedus, Zoph and Shazeer 2021, section 2.1): `top_k` of one.

    Its jitter belongs to the inputs of the gate, before the logits, and not here.
    """
    return top_k(logits_GSE, is_token_GS, capacity, key, num_choices=1)


def top_k(
    logits_GSE: jax.Array,
    is_token_GS: jax.Array,
    capacity: int,
    key: jax.Array | None,
    *,
    num_choices: int,
) -> Routing:
    """Routes to the K largest logits (as Mixtral, equation 4), with GShard's slots and loss.

    With K of 2 and more the weights are the softmax of the K chosen logits, which are the gates
    normalised before anything is dropped. A single choice has the gate of all E as its weight
    (Switch, equation 2): normalised it would be 1 and without a gradient. All first choices take
    slots in token order, then all second ones, and so on. A weight that underflows to 0 is not
    wanted. The loss counts first choices, as in Algorithm 1, and is 1 if routing is uniform.
    Padding is never routed, takes no slot and counts in no mean. `key` is not used.
    """
    del key
    num_experts = logits_GSE.shape[-1]
    check_num_choices(num_choices, num_experts)
    logits_GSE = logits_GSE.astype(jnp.float32)
    gates_GSE = jax.nn.softmax(logits_GSE)  # Switch, equation 1
    expert_GSK = find_largest(logits_GSE, num_choices)
    if num_choices == 1:
        weight_GSK = pick(gates_GSE, expert_GSK)  # Switch, equation 2
    else:
        weight_GSK = jax.nn.softmax(pick(logits_GSE, expert_GSK))  # Mixtral, equation 4
    is_wanted_GSK = is_token_GS[..., None] & (weight_GSK > 0)
    slot_GSK = count_slots(expert_GSK, is_wanted_GSK, num_experts)
    weight_GSK = jnp.where(is_wanted_GSK & (slot_GSK < capacity), weight_GSK, 0.0)
    is_first_GSE = is_expert(expert_GSK[..., 0], num_experts)
    aux_loss = balance_loss(gates_GSE, is_first_GSE, is_token_GS)  # Switch, equation 4
    return Routing(expert_GSK, slot_GSK, weight_GSK, is_wanted_GSK, aux_loss)
