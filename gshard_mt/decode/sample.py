"""Sampling: translations drawn from the model instead of searched for."""
# SPDX-License-Identifier: Apache-2.0

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gshard_mt.decode.beam import Hypotheses
from gshard_mt.model.cache import Cache
from gshard_mt.model.moe import decoding_groups
from gshard_mt.model.transformer import Memory, Transformer


class Sampling(NamedTuple):
    """How translations are drawn, `num` of each sentence."""

    num: int  # W
    temperature: float | jax.Array  # divides the logits; below 1 likely words become likelier
    bos_id: int
    eos_id: int


class _Draws(NamedTuple):
    position: jax.Array
    token_BW: jax.Array
    ids_BWT: jax.Array
    score_BW: jax.Array
    has_ended_BW: jax.Array
    cache: Cache


def sample(
    model: Transformer,
    sampling: Sampling,
    memory: Memory,
    limit_B: jax.Array,
    key_B: jax.Array,
    num_positions: int,
) -> Hypotheses:
    """Draws translations of one sentence a row (Q = 1), each sentence with its own key.

    What is drawn depends on the sentence and its key alone. A row ends at the end of sentence or
    after `limit_B` ids. The score is the log-probability at temperature 1, without length penalty;
    best first.
    """
    num_rows, num = limit_B.size, sampling.num
    groups = decoding_groups(model.config)

    def is_open(draws: _Draws) -> jax.Array:
        return ~draws.has_ended_BW & (draws.position < limit_B)[:, None]

    def extend(draws: _Draws) -> _Draws:
        position_B = jnp.full(num_rows, draws.position)
        hidden_BWM, cache = model.step(draws.token_BW, position_B, draws.cache, memory, groups)
        log_p_BWV = jax.nn.log_softmax(model.logits(hidden_BWM), axis=-1)
        keys = jax.vmap(lambda key: jax.random.fold_in(key, draws.position))(key_B)
        id_BW = jax.vmap(lambda key, x_WV: jax.random.categorical(key, x_WV))(
            keys, log_p_BWV / sampling.temperature
        ).astype(jnp.int32)
        log_p_BW = jnp.take_along_axis(log_p_BWV, id_BW[:, :, None], axis=2)[:, :, 0]
        is_open_BW = is_open(draws)
        is_here_T = jnp.arange(num_positions) == draws.position
        is_new_BWT = is_here_T & is_open_BW[:, :, None]
        return _Draws(
            draws.position + 1,
            id_BW,
            jnp.where(is_new_BWT, id_BW[:, :, None], draws.ids_BWT),
            draws.score_BW + jnp.where(is_open_BW, log_p_BW, 0.0),
            draws.has_ended_BW | (is_open_BW & (id_BW == sampling.eos_id)),
            cache,
        )

    draws = _Draws(
        position=jnp.zeros((), jnp.int32),
        token_BW=jnp.full((num_rows, num), sampling.bos_id, jnp.int32),
        ids_BWT=jnp.zeros((num_rows, num, num_positions), jnp.int32),
        score_BW=jnp.zeros((num_rows, num)),
        has_ended_BW=jnp.zeros((num_rows, num), bool),
        cache=model.empty_cache(num_rows, num, num_positions),
    )
    draws = jax.lax.while_loop(lambda d: jnp.any(is_open(d)), extend, draws)
    order_BW = jnp.argsort(-draws.score_BW, axis=1, stable=True)
    return Hypotheses(
        jnp.take_along_axis(draws.ids_BWT, order_BW[:, :, None], axis=1)[:, None],
        jnp.take_along_axis(draws.score_BW, order_BW, axis=1)[:, None],
    )
