"""Sampling: translations drawn from the model's distribution."""
# SPDX-License-Identifier: Apache-2.0

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gshard_mt.data.tokenizer import bos_id, eos_id
from gshard_mt.decode.beam import Hypotheses
from gshard_mt.decode.restrictions import Request, Restrictions
from gshard_mt.model.cache import Cache
from gshard_mt.model.moe import decoding_groups
from gshard_mt.model.transformer import EncodedSource, Transformer


class _Samples(NamedTuple):
    position: jax.Array
    token_BW: jax.Array
    ids_BWT: jax.Array
    score_BW: jax.Array
    has_ended_BW: jax.Array
    cache: Cache


class Randomness(NamedTuple):
    """What samples are drawn with; below a temperature of 1, likely words become likelier."""

    key_B: jax.Array
    temperature: float | jax.Array  # divides the logits


def sample(
    model: Transformer,
    source: EncodedSource,
    request: Request,
    randomness: Randomness,
    shape_WT: tuple[int, int],
    restrictions: Restrictions,
) -> Hypotheses:
    """Samples W translations of up to T ids for one sentence per row (Q = 1).

    A sample depends only on its sentence and key; it ends with the end of sentence or after
    `limit_BQ` ids. The subwords that `restrictions` and the prefix leave are as likely in relation
    to each other as without these. The score is the log-probability at temperature 1 among all
    subwords, without length penalty; best first.
    """
    limit_B, prefix_BT = request.limit_BQ[:, 0], request.prefix_BQT[:, 0]
    num_rows, num_positions = limit_B.size, shape_WT[1]
    shape_BW = (num_rows, shape_WT[0])
    groups = decoding_groups(model.config)

    def is_open(samples: _Samples) -> jax.Array:
        return ~samples.has_ended_BW & (samples.position < limit_B)[:, None]

    def extend(samples: _Samples) -> _Samples:
        position_B = jnp.full(num_rows, samples.position)
        hidden_BWM, cache = model.step(samples.token_BW, position_B, samples.cache, source, groups)
        logits_BWV, allowed_BWV = restrictions.apply(
            model.logits(hidden_BWM), samples.ids_BWT, position_B, prefix_BT
        )
        id_BW, log_p_BW = _draw(logits_BWV, allowed_BWV, randomness, samples.position)
        is_open_BW = is_open(samples)
        is_new_BWT = (jnp.arange(num_positions) == samples.position) & is_open_BW[:, :, None]
        return _Samples(
            samples.position + 1,
            id_BW,
            jnp.where(is_new_BWT, id_BW[:, :, None], samples.ids_BWT),
            samples.score_BW + jnp.where(is_open_BW, log_p_BW, 0.0),
            samples.has_ended_BW | (is_open_BW & (id_BW == eos_id)),
            cache,
        )

    samples = _Samples(
        position=jnp.zeros((), jnp.int32),
        token_BW=jnp.full(shape_BW, bos_id, jnp.int32),
        ids_BWT=jnp.zeros((*shape_BW, num_positions), jnp.int32),
        score_BW=jnp.zeros(shape_BW),
        has_ended_BW=jnp.zeros(shape_BW, bool),
        cache=model.empty_cache(*shape_BW, num_positions),
    )
    samples = jax.lax.while_loop(lambda s: jnp.any(is_open(s)), extend, samples)
    order_BW = jnp.argsort(-samples.score_BW, axis=1, stable=True)
    return Hypotheses(
        jnp.take_along_axis(samples.ids_BWT, order_BW[:, :, None], axis=1)[:, None],
        jnp.take_along_axis(samples.score_BW, order_BW, axis=1)[:, None],
    )


def _draw(
    logits_BWV: jax.Array, allowed_BWV: jax.Array | None, randomness: Randomness, position
) -> tuple[jax.Array, jax.Array]:
    """Draws the next ids; returns them and their log-probabilities among all subwords."""
    log_p_BWV = jax.nn.log_softmax(logits_BWV, axis=-1)
    likely_BWV = log_p_BWV
    if allowed_BWV is not None:
        likely_BWV = jnp.where(allowed_BWV > -jnp.inf, log_p_BWV, -jnp.inf)
    key_B = jax.vmap(jax.random.fold_in, (0, None))(randomness.key_B, position)
    id_BW = jax.vmap(jax.random.categorical)(key_B, likely_BWV / randomness.temperature)
    id_BW = id_BW.astype(jnp.int32)
    return id_BW, jnp.take_along_axis(log_p_BWV, id_BW[:, :, None], axis=2)[:, :, 0]
