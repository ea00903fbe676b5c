"""What became of the tokens of each language pair: sums on the device, never means."""
# SPDX-License-Identifier: Apache-2.0

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gshard_mt.routing.routing import Routing, is_expert


class Counters(NamedTuple):
    """Sums over the real tokens of each pair, to be added up over layers and steps."""

    num_tokens_X: jax.Array  # int32, padding not counted
    num_sent_XK: jax.Array  # int32 [X, K + 1]: tokens sent to 0, 1 ... K experts
    num_wanted_XK: jax.Array  # int32: choices that the gate asked for, by rank
    num_over_capacity_XK: jax.Array  # int32: those of them that found their expert full
    load_XE: jax.Array  # int32: dispatched choices of each expert
    entropy_X: jax.Array  # float32, nats: of the softmax of the logits, summed over tokens


def count(
    routing: Routing,
    logits_GSE: jax.Array | None,
    is_token_GS: jax.Array,
    pair_GS: jax.Array,
    num_pairs: int,
    num_experts: int,
) -> Counters:
    """Returns the sums of one routing over all its groups; without logits the entropy is 0.

    `pair_GS` names the pair of each token, in [0, X); what it holds at padding doesn't matter.
    One product of float32 matrices a field: no scatter, and exact up to 2^24 tokens. No gradient.
    """
    routing, logits_GSE = jax.lax.stop_gradient((routing, logits_GSE))
    is_sent_GSK = routing.weight_GSK > 0
    is_pair_GSX = is_expert(pair_GS, num_pairs) & is_token_GS[..., None]

    def add_up(value_GSF: jax.Array) -> jax.Array:
        pair_GSX, value_GSF = is_pair_GSX.astype(jnp.float32), value_GSF.astype(jnp.float32)
        return jnp.einsum("GSX,GSF->XF", pair_GSX, value_GSF, precision="highest")

    def add_up_exactly(value_GSF: jax.Array) -> jax.Array:
        return jnp.round(add_up(value_GSF)).astype(jnp.int32)

    num_sent_GS = jnp.sum(is_sent_GSK, axis=-1, dtype=jnp.int32)
    is_it_GSKE = is_sent_GSK[..., None] & is_expert(routing.expert_GSK, num_experts)
    entropy_GS = jnp.zeros(is_token_GS.shape) if logits_GSE is None else _entropy(logits_GSE)
    return Counters(
        num_tokens_X=add_up_exactly(is_token_GS[..., None])[:, 0],
        num_sent_XK=add_up_exactly(is_expert(num_sent_GS, is_sent_GSK.shape[-1] + 1)),
        num_wanted_XK=add_up_exactly(routing.is_wanted_GSK),
        num_over_capacity_XK=add_up_exactly(routing.is_wanted_GSK & ~is_sent_GSK),
        load_XE=add_up_exactly(jnp.any(is_it_GSKE, axis=2)),
        entropy_X=add_up(jnp.where(is_token_GS, entropy_GS, 0.0)[..., None])[:, 0],
    )


def _entropy(logits_GSE: jax.Array) -> jax.Array:
    """Returns -sum_e p_e log p_e, from 0 to log(E); an expert of probability 0 adds nothing."""
    log_GSE = jax.nn.log_softmax(logits_GSE.astype(jnp.float32))
    p_GSE = jnp.exp(log_GSE)
    return -jnp.sum(jnp.where(p_GSE > 0, p_GSE * log_GSE, 0.0), axis=-1)
