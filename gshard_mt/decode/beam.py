"""Beam search over a key/value cache; every sentence is searched as if it were alone."""
# SPDX-License-Identifier: Apache-2.0

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gshard_mt.model.cache import Cache
from gshard_mt.model.moe import decoding_groups
from gshard_mt.model.transformer import Memory, Transformer, take_memory
from gshard_mt.partitioning.annotate import shard

WORST = -1e9  # the score of a beam that is not there
_BLOCK = 128  # subwords of the vocabulary whose best score is taken first


class Search(NamedTuple):
    """Beam search as it is asked for; the limit of each sentence stands beside the source."""

    beam_size: int  # W
    length_penalty: float  # alpha
    bos_id: int
    eos_id: int


class Hypotheses(NamedTuple):
    """The W best per sentence, best first. Ids end with the end of sentence, then zeros."""

    ids_BQWT: jax.Array
    score_BQW: jax.Array  # log-probability over the length penalty; WORST where there is none


class _Beams(NamedTuple):
    turn_B: jax.Array  # which of its sentences a row is at
    position_B: jax.Array  # ids that its live hypotheses have
    token_BW: jax.Array  # what is fed next
    live_BWT: jax.Array  # ids so far
    live_score_BW: jax.Array  # their log-probability
    is_greedy_BW: jax.Array  # which one greedy search has, none if that is finished
    finished_BWT: jax.Array
    finished_score_BW: jax.Array  # with length penalty
    cache: Cache
    found: Hypotheses


def beam_search(
    model: Transformer,
    search: Search,
    queue: Memory,
    limit_BQ: jax.Array,
    num_positions: int,
) -> Hypotheses:
    """Translates Q sentences a row, one after another, so that no row waits for a longer one.

    A hypothesis is finished when the end of sentence is among the W best continuations; a sentence
    is done with W finished ones, or after its own `limit_BQ` ids (at most `num_positions`). If
    none has finished by then, the live ones count as they are. The hypothesis of greedy search is
    always among the live ones until it is finished, so that nothing worse is found than that; W = 1
    is greedy search. A limit of 0 is no sentence; none comes after it. `queue` is of
    `queue_memories`.
    """
    num_rows, num_turns = limit_BQ.shape
    num_beams = search.beam_size
    groups = decoding_groups(model.config)
    num_B = jnp.sum(limit_BQ > 0, axis=1)

    def extend(beams: _Beams) -> _Beams:
        memory = take_memory(queue, beams.turn_B)
        hidden_BWM, cache = model.step(
            beams.token_BW, beams.position_B, beams.cache, memory, groups
        )
        continued = continue_beams(beams.live_score_BW, model.logits(hidden_BWM), 2 * num_beams)
        turn_B1 = jnp.minimum(beams.turn_B, num_turns - 1)[:, None]
        limit_B = jnp.take_along_axis(limit_BQ, turn_B1, axis=1)[:, 0]
        limit_B = jnp.where(beams.turn_B < num_B, limit_B, 0)  # its row has nothing left to do
        return _take_turns(_advance(beams, cache, continued, search), limit_B, search)

    shape_W, shape_T = (num_rows, search.beam_size), (search.beam_size, num_positions)
    ids_BWT = jnp.zeros((num_rows, *shape_T), jnp.int32)
    beams = _Beams(
        turn_B=jnp.zeros(num_rows, jnp.int32),
        position_B=jnp.zeros(num_rows, jnp.int32),
        token_BW=jnp.full(shape_W, search.bos_id, jnp.int32),
        live_BWT=ids_BWT,
        live_score_BW=_first_scores(shape_W),
        is_greedy_BW=jnp.zeros(shape_W, bool).at[:, 0].set(True),
        finished_BWT=ids_BWT,
        finished_score_BW=jnp.full(shape_W, WORST),
        cache=model.empty_cache(*shape_W, num_positions),
        found=Hypotheses(
            jnp.zeros((num_rows, num_turns, *shape_T), jnp.int32),
            jnp.full((num_rows, num_turns, search.beam_size), WORST),
        ),
    )
    return jax.lax.while_loop(lambda b: jnp.any(b.turn_B < num_B), extend, beams).found


def remember_source(model: Transformer, source_BL: jax.Array) -> Memory:
    """Encodes one sentence a row, once; id 0 is padding."""
    is_token_BL = shard(source_BL, "BL") != 0
    position_BL = jnp.broadcast_to(jnp.arange(source_BL.shape[1]), source_BL.shape)
    segment_BL = is_token_BL.astype(jnp.int32)
    memory_BLM, _ = model.encode(source_BL, segment_BL, position_BL, decoding_groups(model.config))
    return model.remember(memory_BLM, is_token_BL)


def _first_scores(shape_W: tuple[int, ...]) -> jax.Array:
    """All beams start alike: only one counts."""
    return jnp.full(shape_W, WORST).at[:, 0].set(0.0)


class Continued(NamedTuple):
    """The best continuations of a row's beams, best first, and the best one of each beam."""

    score_BK: jax.Array
    beam_BK: jax.Array
    id_BK: jax.Array
    best_id_BW: jax.Array
    best_score_BW: jax.Array


def continue_beams(live_score_BW, logits_BWV: jax.Array, num: int) -> Continued:
    """Returns the `num` best continuations by the sum of log-probabilities; of equals the first.

    The best are in the blocks of the vocabulary with the best maxima, so that of the many scores
    none is written down; and blocks stay in their order, so that of equals the first comes first.
    """
    num_rows, num_beams, vocab_size = logits_BWV.shape
    block = _block_size(vocab_size)
    padding = ((0, 0), (0, 0), (0, -vocab_size % block))
    logits_BWIV = jnp.pad(logits_BWV, padding, constant_values=-jnp.inf)
    logits_BWIV = logits_BWIV.reshape(num_rows, num_beams, -1, block)
    most_BWI = jnp.max(logits_BWIV, axis=3)
    most_BW1 = jnp.max(most_BWI, axis=2, keepdims=True)
    sum_BW = jnp.sum(jnp.exp(logits_BWIV - most_BW1[..., None]), axis=(2, 3))
    # A score is a logit less the largest one, which is exact where it matters, and this.
    added_BW = live_score_BW - jnp.log(sum_BW)

    num_blocks = most_BWI.shape[2]
    best_BI = ((most_BWI - most_BW1) + added_BW[:, :, None]).reshape(num_rows, -1)
    block_BK = jnp.sort(_largest(best_BI, min(num, best_BI.shape[1]))[1], axis=1)
    logits_BIV = logits_BWIV.reshape(num_rows, -1, block)
    logits_BKV = jnp.take_along_axis(logits_BIV, block_BK[:, :, None], axis=1)
    most_BK, added_BK = (
        jnp.take_along_axis(each_BW, block_BK // num_blocks, axis=1)[:, :, None]
        for each_BW in (most_BW1[:, :, 0], added_BW)
    )
    score_BKV = (logits_BKV - most_BK) + added_BK
    score_BK, place_BK = _largest(score_BKV.reshape(num_rows, -1), num)
    block_BK = jnp.take_along_axis(block_BK, place_BK // block, axis=1)
    id_BK = block_BK % num_blocks * block + place_BK % block

    first_BW1 = jnp.argmax(most_BWI, axis=2, keepdims=True)
    logits_BWV = jnp.take_along_axis(logits_BWIV, first_BW1[..., None], axis=2)[:, :, 0]
    best_id_BW = first_BW1[:, :, 0] * block + jnp.argmax(logits_BWV, axis=2)
    ids = (block_BK // num_blocks, id_BK.astype(jnp.int32), best_id_BW.astype(jnp.int32))
    return Continued(score_BK, *ids, added_BW)


def _block_size(vocab_size: int) -> int:
    """A divisor of the vocabulary near _BLOCK, so that nothing is padded; _BLOCK without one."""
    divisors = [n for n in range(_BLOCK // 2, 2 * _BLOCK) if vocab_size % n == 0]
    return min(divisors, key=lambda n: abs(n - _BLOCK), default=min(_BLOCK, vocab_size))


def _advance(beams: _Beams, cache: Cache, continued: Continued, search: Search) -> _Beams:
    """One position: the 2W best continuations, of which ends finish and the W best others live."""
    num_beams = search.beam_size
    # Each beam has one end, so among 2W candidates W do not end; greedy search's is one more.
    score_BK, beam_BK, id_BK, is_greedy_BK = _with_greedy(beams.is_greedy_BW, continued)
    is_end_BK = id_BK == search.eos_id
    ids_BKT = jnp.take_along_axis(beams.live_BWT, beam_BK[:, :, None], axis=1)
    is_here_BT = jnp.arange(ids_BKT.shape[2]) == beams.position_B[:, None]
    ids_BKT = jnp.where(is_here_BT[:, None], id_BK[:, :, None], ids_BKT)

    penalty_B = _penalty(beams.position_B + 1, search)
    is_in_beam_BK = (jnp.arange(2 * num_beams + 1) < num_beams) | is_greedy_BK
    has_ended_BK = is_end_BK & is_in_beam_BK & (score_BK > WORST / 2)
    ended_score_BK = jnp.where(has_ended_BK, score_BK / penalty_B[:, None], WORST)
    finished_score_BK = jnp.concatenate([beams.finished_score_BW, ended_score_BK], axis=1)
    finished_BKT = jnp.concatenate([beams.finished_BWT, ids_BKT], axis=1)
    finished_score_BW, kept_BW = _largest(finished_score_BK, num_beams)
    finished_BWT = jnp.take_along_axis(finished_BKT, kept_BW[:, :, None], axis=1)

    live_score_BK = jnp.where(is_end_BK, WORST, score_BK)
    kept_BW = _largest(jnp.where(is_greedy_BK & ~is_end_BK, jnp.inf, live_score_BK), num_beams)[1]
    # By score again, of equals the first; the one more stands behind all of them.
    kept_BW = jnp.sort(kept_BW, axis=1)
    live_score_BW, order_BW = _largest(jnp.take_along_axis(live_score_BK, kept_BW, 1), num_beams)
    kept_BW = jnp.take_along_axis(kept_BW, order_BW, axis=1)
    is_greedy_BW = jnp.take_along_axis(is_greedy_BK & ~is_end_BK, kept_BW, axis=1)
    parent_BW = jnp.take_along_axis(beam_BK, kept_BW, axis=1)
    return beams._replace(
        position_B=beams.position_B + 1,
        token_BW=jnp.take_along_axis(id_BK, kept_BW, axis=1),
        live_BWT=jnp.take_along_axis(ids_BKT, kept_BW[:, :, None], axis=1),
        live_score_BW=live_score_BW,
        is_greedy_BW=is_greedy_BW,
        finished_BWT=finished_BWT,
        finished_score_BW=finished_score_BW,
        cache=cache.follow(parent_BW),
    )


def _with_greedy(is_greedy_BW: jax.Array, continued: Continued) -> tuple[jax.Array, ...]:
    """Returns scores, beams, ids of the best continuations and of one more, and which is greedy's.

    The one more is greedy search's where it isn't among the best; nothing else.
    """
    beam_B1 = jnp.argmax(is_greedy_BW, axis=1, keepdims=True)
    id_B1 = jnp.take_along_axis(continued.best_id_BW, beam_B1, axis=1)
    score_B1 = jnp.take_along_axis(continued.best_score_BW, beam_B1, axis=1)
    has_greedy_B1 = jnp.any(is_greedy_BW, axis=1, keepdims=True)
    is_same_BK = (continued.beam_BK == beam_B1) & (continued.id_BK == id_B1) & has_greedy_B1
    is_more_B1 = has_greedy_B1 & ~jnp.any(is_same_BK, axis=1, keepdims=True)
    return (
        jnp.concatenate([continued.score_BK, jnp.where(is_more_B1, score_B1, WORST)], axis=1),
        jnp.concatenate([continued.beam_BK, beam_B1], axis=1),
        jnp.concatenate([continued.id_BK, id_B1], axis=1),
        jnp.concatenate([is_same_BK, is_more_B1], axis=1),
    )


def _take_turns(beams: _Beams, limit_B: jax.Array, search: Search) -> _Beams:
    """Keeps what was found of sentences that are done; their rows begin the next one."""
    is_full_B = jnp.all(beams.finished_score_BW > WORST, axis=1)
    has_greedy_B = jnp.any(beams.is_greedy_BW, axis=1)
    is_done_B = (is_full_B & ~has_greedy_B) | (beams.position_B >= limit_B)
    ids_BWT, score_BW = _best(beams, limit_B, search)
    is_turn_BQ = jnp.arange(beams.found.score_BQW.shape[1]) == beams.turn_B[:, None]
    is_new_BQ1 = (is_turn_BQ & (is_done_B & (limit_B > 0))[:, None])[:, :, None]
    found = Hypotheses(
        jnp.where(is_new_BQ1[..., None], ids_BWT[:, None], beams.found.ids_BQWT),
        jnp.where(is_new_BQ1, score_BW[:, None], beams.found.score_BQW),
    )
    is_done_B1 = is_done_B[:, None]
    is_done_B11 = is_done_B1[:, :, None]
    return beams._replace(
        turn_B=beams.turn_B + is_done_B,
        position_B=jnp.where(is_done_B, 0, beams.position_B),
        token_BW=jnp.where(is_done_B1, search.bos_id, beams.token_BW),
        live_BWT=jnp.where(is_done_B11, 0, beams.live_BWT),
        live_score_BW=jnp.where(is_done_B1, _first_scores(score_BW.shape), beams.live_score_BW),
        is_greedy_BW=jnp.where(is_done_B1, jnp.arange(search.beam_size) == 0, beams.is_greedy_BW),
        finished_BWT=jnp.where(is_done_B11, 0, beams.finished_BWT),
        finished_score_BW=jnp.where(is_done_B1, WORST, beams.finished_score_BW),
        found=found,
    )


def _best(beams: _Beams, limit_B: jax.Array, search: Search) -> tuple[jax.Array, jax.Array]:
    """The finished hypotheses; the live ones of a sentence that reached its limit without any."""
    has_none_B = jnp.all(beams.finished_score_BW <= WORST, axis=1)
    live_score_BW = beams.live_score_BW / _penalty(limit_B, search)[:, None]
    ids_BWT = jnp.where(has_none_B[:, None, None], beams.live_BWT, beams.finished_BWT)
    return ids_BWT, jnp.where(has_none_B[:, None], live_score_BW, beams.finished_score_BW)


def _penalty(length_B: jax.Array, search: Search) -> jax.Array:
    """The length penalty of Wu et al. 2016, equation 14."""
    return ((5.0 + length_B) / 6.0) ** search.length_penalty


def _largest(score_BK: jax.Array, num: int) -> tuple[jax.Array, jax.Array]:
    """The `num` largest and where they stand, best first; of equals the first."""
    return jax.lax.top_k(score_BK, num)
