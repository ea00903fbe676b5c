"""Auxiliary losses of gates: even load over the experts, and small logits."""
# SPDX-License-Identifier: Apache-2.0

import jax
import jax.numpy as jnp


def balance_loss(
    gates_GSE: jax.Array, is_first_GSE: jax.Array, is_token_GS: jax.Array
) -> jax.Array:
    """GShard's l_aux (Algorithm 1, line 13) in the scale of Lingvo and Mesh TensorFlow.

    That is E^2 times the printed one: 1 if routing is uniform, E if everything goes to one expert.
    Per group E * sum_e (c_e / S) * m_e, where S counts its real tokens and c_e the first choices;
    groups are weighted by their real tokens, so that a group of padding doesn't dilute the loss.
    """
    is_token_GS1 = is_token_GS[..., None]
    count_GE = jnp.sum((is_first_GSE & is_token_GS1).astype(jnp.float32), axis=1)  # c_e
    gates_GE = jnp.sum(jnp.where(is_token_GS1, gates_GSE, 0.0), axis=1)  # 3: m_E * S
    tokens_G = jnp.sum(is_token_GS.astype(jnp.float32), axis=1)
    loss_G = gates_GSE.shape[-1] * jnp.sum(count_GE * gates_GE, axis=1) / jnp.maximum(tokens_G, 1.0)
    return jnp.sum(loss_G) / jnp.maximum(jnp.sum(tokens_G), 1.0)


def squared_variation(x: jax.Array) -> jax.Array:
    """CV(x)^2, the variance of all of x over the squared mean: 0 if all values are equal.

    Shazeer et al. 2017, equation 7, with the 1e-10 of Tensor2Tensor: 0 where the mean is 0.
    """
    return jnp.var(x) / (jnp.square(jnp.mean(x)) + 1e-10)


def z_loss(logits_GSE: jax.Array, is_token_GS: jax.Array) -> jax.Array:
    """Mean over real tokens of log(sum_e exp(logits))^2 (ST-MoE, equation 5); 0 without any.

    It keeps the logits small, where rounding to float32 or bfloat16 changes them little.
    """
    log_total_GS = jax.nn.logsumexp(logits_GSE.astype(jnp.float32), axis=-1)
    total = jnp.sum(jnp.where(is_token_GS, jnp.square(log_total_GS), 0.0))
    return total / jnp.maximum(jnp.sum(is_token_GS, dtype=jnp.float32), 1.0)
