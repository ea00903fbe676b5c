"""The gate of the Sparsely-Gated MoE: top K of noisy logits, balanced by Importance and Load."""
# SPDX-License-Identifier: Apache-2.0

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr

from gshard_mt.routing.balance import squared_variation
from gshard_mt.routing.routing import (
    GateInputs,
    Routing,
    assign_slots,
    is_expert,
    take_along_experts,
    top_k_experts,
)


class NoisyChoices(NamedTuple):
    """The choices of noisy top-K gating among E experts, before any capacity."""

    expert_K: jax.Array  # int32 [..., K], the largest first
    gates_E: jax.Array  # float32 [..., E], G(x): sums to 1 over the K chosen, 0 elsewhere
    load_E: jax.Array  # float32 [..., E], P(x, i): chosen, if only its own noise were drawn again


def noisy_top_k(inputs: GateInputs, *, num_choices: int, noise_GSE: jax.Array) -> Routing:
    """Shazeer et al. 2017, section 2.1 and appendix A, with GShard's slots in token order.

    `noise_GSE` is the product of the tokens with W_noise. Without a key there is no noise. Both
    weights should start at zero (appendix A), which loads all experts equally. `aux_loss` is
    CV(Importance)^2 + CV(Load)^2 over the real tokens of all groups, before any drop: 0 if even.
    With K = 1 the weight is 1, and the gate learns from this loss alone. With K = E there is no
    threshold, and the Load of every expert is the number of tokens.
    """
    expert_GSK, gates_GSE, load_GSE = choose_noisy(
        inputs.logits_GSE, noise_GSE, num_choices, inputs.key
    )
    is_token_GS1 = inputs.is_token_GS[..., None]
    importance_E = jnp.sum(jnp.where(is_token_GS1, gates_GSE, 0.0), axis=(0, 1))  # equation 6
    load_E = jnp.sum(jnp.where(is_token_GS1, load_GSE, 0.0), axis=(0, 1))  # equation 10
    aux_loss = squared_variation(importance_E) + squared_variation(load_E)  # equations 7 and 11
    return assign_slots(inputs, expert_GSK, take_along_experts(gates_GSE, expert_GSK), aux_loss)


def choose_noisy(
    logits_E: jax.Array, noise_E: jax.Array, num_choices: int, key: jax.Array | None
) -> NoisyChoices:
    """Returns the choices of `[..., E]` logits; the numbers are equations of the paper.

    The minimum of the noise's deviation, 1e-2, is Tensor2Tensor's.
    """
    logits_E, num_experts = logits_E.astype(jnp.float32), logits_E.shape[-1]
    deviation_E = jax.nn.softplus(noise_E.astype(jnp.float32)) + 1e-2
    noisy_E = logits_E  # 4: H(x)
    if key is not None:
        noisy_E += jax.random.normal(key, logits_E.shape) * deviation_E
    expert_K = top_k_experts(noisy_E, min(num_choices + 1, num_experts))
    is_chosen_E = jnp.any(is_expert(expert_K[..., :num_choices], num_experts), axis=-2)
    gates_E = jax.nn.softmax(noisy_E, where=is_chosen_E)  # 3, 5
    if num_choices == num_experts:
        return NoisyChoices(expert_K, gates_E, jnp.ones_like(gates_E))
    # The k-th largest of the others: the (k+1)-th of all for an expert that is among the first k.
    last_2 = take_along_experts(noisy_E, expert_K[..., num_choices - 1 :])
    threshold_E = jnp.where(is_chosen_E, last_2[..., 1:], last_2[..., :1])
    load_E = ndtr((logits_E - threshold_E) / deviation_E)  # 8, 9
    return NoisyChoices(expert_K[..., :num_choices], gates_E, load_E)
