"""Routing statistics by language pair: sums on the device, never means."""
# SPDX-License-Identifier: Apache-2.0

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gshard_mt.routing.routing import Routing, is_expert


class Counters(NamedTuple):
    """Sums over the real tokens of each language pair, to be added up over layers and steps."""

    num_tokens_X: jax.Array  # int32, padding not counted
    num_dispatched_XK: jax.Array  # int32 [X, K + 1]: tokens dispatched to 0, 1 ... K experts
    num_selected_XK: jax.Array  # int32: choices that the gate selected, by rank
    num_over_capacity_XK: jax.Array  # int32: selected choices that found their expert full
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

    `pair_GS` numbers the language pair of each token, in [0, X); its values at padding do not
    matter. One product of float32 matrices per field: no scatter, and exact up to 2^24 tokens. No
    gradient.
    """
    routing, logits_GSE = jax.lax.stop_gradient((routing, logits_GSE))
    is_dispatched_GSK = routing.weight_GSK > 0
    is_pair_GSX = (is_expert(pair_GS, num_pairs) & is_token_GS[..., None]).astype(jnp.float32)

    def add_up(value: jax.Array) -> jax.Array:
        """[G, S, ...] -> [X, ...]"""
        value = value.astype(jnp.float32)
        return jnp.einsum("GSX,GS...->X...", is_pair_GSX, value, precision="highest")

    def add_up_exactly(value: jax.Array) -> jax.Array:
        return jnp.round(add_up(value)).astype(jnp.int32)

    num_dispatched_GS = jnp.sum(is_dispatched_GSK, axis=-1, dtype=jnp.int32)
    is_it_GSKE = is_dispatched_GSK[..., None] & is_expert(routing.expert_GSK, num_experts)
    entropy_GS = jnp.zeros(is_token_GS.shape) if logits_GSE is None else _entropy(logits_GSE)
    return Counters(
        num_tokens_X=add_up_exactly(is_token_GS),
        num_dispatched_XK=add_up_exactly(
            is_expert(num_dispatched_GS, is_dispatched_GSK.shape[-1] + 1)
        ),
        num_selected_XK=add_up_exactly(routing.is_selected_GSK),
        num_over_capacity_XK=add_up_exactly(routing.is_selected_GSK & ~is_dispatched_GSK),
        load_XE=add_up_exactly(jnp.any(is_it_GSKE, axis=2)),
        entropy_X=add_up(jnp.where(is_token_GS, entropy_GS, 0.0)),
    )


def _entropy(logits_GSE: jax.Array) -> jax.Array:
    """Returns -sum_e p_e log p_e, from 0 to log(E); an expert of probability 0 adds nothing."""
    log_GSE = jax.nn.log_softmax(logits_GSE.astype(jnp.float32))
    p_GSE = jnp.exp(log_GSE)
    return -jnp.sum(jnp.where(p_GSE > 0, p_GSE * log_GSE, 0.0), axis=-1)
