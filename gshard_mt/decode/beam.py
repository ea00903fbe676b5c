"""Beam search over a key/value cache; every sentence is searched as if it were alone."""
# SPDX-License-Identifier: Apache-2.0

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gshard_mt.config import ModelConfig
from gshard_mt.model.moe import decoding_groups
from gshard_mt.model.transformer import Cache, Memory, Transformer
from gshard_mt.partitioning.annotate import shard

WORST = -1e9  # the score of a beam that is not there
_BLOCK = 128  # scores of `largest_of_many` whose maximum is taken first


class Search(NamedTuple):
    """Beam search as it is asked for: `limit_B` of each sentence stands beside the source."""

    beam_size: int  # W
    length_penalty: float  # alpha
    bos_id: int
    eos_id: int


class Hypotheses(NamedTuple):
    """The W best per sentence, best first. Ids end with the end of sentence, then zeros."""

    ids_BWT: jax.Array
    score_BW: jax.Array  # log-probability over the length penalty; WORST where there is none


class _Beams(NamedTuple):
    position: jax.Array
    token_BW: jax.Array  # what is fed next
    live_BWT: jax.Array  # ids so far
    live_score_BW: jax.Array  # their log-probability
    finished_BWT: jax.Array
    finished_score_BW: jax.Array  # with length penalty
    cache: Cache


def beam_search(
    model: Transformer,
    config: ModelConfig,
    search: Search,
    source_BL: jax.Array,
    limit_B: jax.Array,
    num_positions: int,
) -> Hypotheses:
    """Translates one sentence a row; id 0 is padding, a row of padding costs nothing.

    A hypothesis is finished when the end of sentence is among the W best continuations; a sentence
    is done with W finished ones, or after its own `limit_B` ids (at most `num_positions`). If
    none has finished by then, the live ones count as they are. W = 1 is greedy search.
    """
    num_rows, num_beams = source_BL.shape[0], search.beam_size
    groups = decoding_groups(config)
    memory = remember_source(model, config, source_BL)

    def is_open(beams: _Beams) -> jax.Array:
        is_full_B = jnp.all(beams.finished_score_BW > WORST, axis=1)
        return ~is_full_B & (beams.position < limit_B)

    def extend(beams: _Beams) -> _Beams:
        hidden_BWM, cache = model.step(beams.token_BW, beams.position, beams.cache, memory, groups)
        log_p_BWV = jax.nn.log_softmax(model.logits(hidden_BWM), axis=-1)
        return _advance(beams, cache, log_p_BWV, search, is_open(beams))

    scores_BW = jnp.full((num_rows, num_beams), WORST)
    ids_BWT = jnp.zeros((num_rows, num_beams, num_positions), jnp.int32)
    beams = _Beams(
        position=jnp.zeros((), jnp.int32),
        token_BW=jnp.full((num_rows, num_beams), search.bos_id, jnp.int32),
        live_BWT=ids_BWT,
        live_score_BW=scores_BW.at[:, 0].set(0.0),  # all beams start alike: only one counts
        finished_BWT=ids_BWT,
        finished_score_BW=scores_BW,
        cache=model.empty_cache(num_rows, num_beams, num_positions),
    )
    beams = jax.lax.while_loop(lambda b: jnp.any(is_open(b)), extend, beams)
    return _best(beams, limit_B, search)


def remember_source(model: Transformer, config: ModelConfig, source_BL: jax.Array) -> Memory:
    """Encodes one sentence a row, once; id 0 is padding."""
    is_token_BL = shard(source_BL, "BL") != 0
    position_BL = jnp.broadcast_to(jnp.arange(source_BL.shape[1]), source_BL.shape)
    segment_BL = is_token_BL.astype(jnp.int32)
    memory_BLM, _ = model.encode(source_BL, segment_BL, position_BL, decoding_groups(config))
    return model.remember(memory_BLM, is_token_BL)


def _advance(beams: _Beams, cache: Cache, log_p_BWV, search: Search, is_open_B) -> _Beams:
    """One position: the 2W best continuations, of which ends finish and the W best others live."""
    num_rows, num_beams, vocab_size = log_p_BWV.shape
    candidate_BK = (beams.live_score_BW[:, :, None] + log_p_BWV).reshape(num_rows, -1)
    # Each beam has one end, so among 2W candidates W do not end.
    score_BK, index_BK = largest_of_many(candidate_BK, 2 * num_beams)
    beam_BK, id_BK = index_BK // vocab_size, (index_BK % vocab_size).astype(jnp.int32)
    is_end_BK = id_BK == search.eos_id
    ids_BKT = jnp.take_along_axis(beams.live_BWT, beam_BK[:, :, None], axis=1)
    is_here_T = jnp.arange(ids_BKT.shape[2]) == beams.position
    ids_BKT = jnp.where(is_here_T, id_BK[:, :, None], ids_BKT)

    penalty = ((5.0 + beams.position + 1.0) / 6.0) ** search.length_penalty
    is_in_beam_K = jnp.arange(2 * num_beams) < num_beams
    has_ended_BK = is_end_BK & is_in_beam_K & (score_BK > WORST / 2) & is_open_B[:, None]
    ended_score_BK = jnp.where(has_ended_BK, score_BK / penalty, WORST)
    finished_score_BK = jnp.concatenate([beams.finished_score_BW, ended_score_BK], axis=1)
    finished_BKT = jnp.concatenate([beams.finished_BWT, ids_BKT], axis=1)
    finished_score_BW, kept_BW = _largest(finished_score_BK, num_beams)
    finished_BWT = jnp.take_along_axis(finished_BKT, kept_BW[:, :, None], axis=1)

    live_score_BW, kept_BW = _largest(jnp.where(is_end_BK, WORST, score_BK), num_beams)
    parent_BW = jnp.take_along_axis(beam_BK, kept_BW, axis=1)
    live_BWT = jnp.take_along_axis(ids_BKT, kept_BW[:, :, None], axis=1)
    # A sentence that is done keeps its beams: what they'd become depends on the rest of the batch.
    return _Beams(
        beams.position + 1,
        jnp.take_along_axis(id_BK, kept_BW, axis=1),
        jnp.where(is_open_B[:, None, None], live_BWT, beams.live_BWT),
        jnp.where(is_open_B[:, None], live_score_BW, beams.live_score_BW),
        finished_BWT,
        finished_score_BW,
        cache.follow(parent_BW),
    )


def largest_of_many(score_BV: jax.Array, num: int) -> tuple[jax.Array, jax.Array]:
    """Returns what `_largest` does, many times as fast for many scores.

    The `num` largest are in the `num` blocks with the largest maxima. Blocks stay in their order,
    so that of equals the first still comes first.
    """
    num_rows, size = score_BV.shape
    if size <= _BLOCK * num:
        return _largest(score_BV, num)
    padded_BV = jnp.pad(score_BV, ((0, 0), (0, -size % _BLOCK)), constant_values=-jnp.inf)
    score_BIV = padded_BV.reshape(num_rows, -1, _BLOCK)
    block_BK = jnp.sort(_largest(jnp.max(score_BIV, axis=2), num)[1], axis=1)
    score_BKV = jnp.take_along_axis(score_BIV, block_BK[:, :, None], axis=1)
    score_BK, place_BK = _largest(score_BKV.reshape(num_rows, -1), num)
    block_BK = jnp.take_along_axis(block_BK, place_BK // _BLOCK, axis=1)
    return score_BK, block_BK * _BLOCK + place_BK % _BLOCK


def _largest(score_BK: jax.Array, num: int) -> tuple[jax.Array, jax.Array]:
    """The `num` largest and where they stand, best first; of equals the first."""
    return jax.lax.top_k(score_BK, num)


def _best(beams: _Beams, limit_B: jax.Array, search: Search) -> Hypotheses:
    """The finished hypotheses; the live ones of a sentence that reached its limit without any."""
    has_none_B = jnp.all(beams.finished_score_BW <= WORST, axis=1)
    penalty_B = ((5.0 + jnp.maximum(limit_B, 1)) / 6.0) ** search.length_penalty
    is_within_BT = jnp.arange(beams.live_BWT.shape[2]) < limit_B[:, None]
    live_BWT = jnp.where(is_within_BT[:, None], beams.live_BWT, 0)
    return Hypotheses(
        jnp.where(has_none_B[:, None, None], live_BWT, beams.finished_BWT),
        jnp.where(
            has_none_B[:, None], beams.live_score_BW / penalty_B[:, None], beams.finished_score_BW
        ),
    )
