"""Beam search with a key/value cache; every sentence is searched independently of the batch."""
# SPDX-License-Identifier: Apache-2.0

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gshard_mt.data.tokenizer import bos_id, eos_id
from gshard_mt.decode.restrictions import Request, Restrictions
from gshard_mt.model.cache import Cache
from gshard_mt.model.moe import Tokens, decoding_groups
from gshard_mt.model.transformer import EncodedSource, Transformer, select_encoding
from gshard_mt.partitioning.annotate import shard

WORST = -1e9  # the score of a beam that does not exist
_BLOCK = 128  # subwords whose maximum is compared first


class Hypotheses(NamedTuple):
    """The W best per sentence, best first. Ids end with the end of sentence, then zeros."""

    ids_BQWT: jax.Array
    score_BQW: jax.Array  # log-probability over the length penalty; WORST if there is none


class _Asked(NamedTuple):
    """What is asked of the current sentence of each row."""

    limit_B: jax.Array  # 0: the row has nothing left to do
    num_beams_B: jax.Array
    length_penalty_B: jax.Array
    prefix_BT: jax.Array


class _Beams(NamedTuple):
    sentence_B: jax.Array  # index of the current sentence of each row
    position_B: jax.Array  # length of its live hypotheses
    token_BW: jax.Array  # the next input
    live_BWT: jax.Array  # ids so far
    live_score_BW: jax.Array  # their log-probability
    is_greedy_BW: jax.Array  # the hypothesis of greedy search, if it is not finished
    finished_BWT: jax.Array
    finished_score_BW: jax.Array  # with length penalty
    cache: Cache
    found: Hypotheses


def beam_search(
    model: Transformer,
    source: EncodedSource,
    request: Request,
    shape_WT: tuple[int, int],
    restrictions: Restrictions,
) -> Hypotheses:
    """Translates Q sentences per row, one after another, so that no row waits for a longer one.

    `source` comes from `stack_encodings`. A sentence has n beams, at most W. A hypothesis is
    finished when the end of sentence is among the n best continuations. A sentence is done when n
    hypotheses are finished, or after `limit_BQ` ids (at most T); if none is finished by then, the
    live ones are returned. The hypothesis of greedy search stays live until it is finished, so the
    result is never worse than greedy search, which has one beam. A limit of 0 means no sentence,
    in this index and all later ones of the row.
    """
    num_rows, num_sentences = request.limit_BQ.shape
    num_beams, num_positions = shape_WT
    groups = decoding_groups(model.config)
    num_B = jnp.sum(request.limit_BQ > 0, axis=1)

    def extend(beams: _Beams) -> _Beams:
        hidden_BWM, cache = model.step(
            beams.token_BW,
            beams.position_B,
            beams.cache,
            select_encoding(source, beams.sentence_B),
            groups,
        )
        asked = _select(request, beams.sentence_B, num_B)
        logits = restrictions.apply(
            model.logits(hidden_BWM), beams.live_BWT, beams.position_B, asked.prefix_BT
        )
        continued = continue_beams(beams.live_score_BW, *logits, 2 * num_beams)
        beams = _advance(beams._replace(cache=cache), continued, asked)
        return _next_sentences(beams, asked)

    shape_W = (num_rows, num_beams)
    ids_BWT = jnp.zeros((num_rows, *shape_WT), jnp.int32)
    beams = _Beams(
        sentence_B=jnp.zeros(num_rows, jnp.int32),
        position_B=jnp.zeros(num_rows, jnp.int32),
        token_BW=jnp.full(shape_W, bos_id, jnp.int32),
        live_BWT=ids_BWT,
        live_score_BW=_first_scores(shape_W),
        is_greedy_BW=jnp.zeros(shape_W, bool).at[:, 0].set(True),
        finished_BWT=ids_BWT,
        finished_score_BW=jnp.full(shape_W, WORST),
        cache=model.empty_cache(*shape_W, num_positions),
        found=Hypotheses(
            jnp.zeros((num_rows, num_sentences, *shape_WT), jnp.int32),
            jnp.full((num_rows, num_sentences, num_beams), WORST),
        ),
    )
    return jax.lax.while_loop(lambda b: jnp.any(b.sentence_B < num_B), extend, beams).found


def one_sentence_per_row(id_BL: jax.Array) -> Tokens:
    """The tokens of rows that hold one sentence each; id 0 is padding."""
    position_BL = jnp.broadcast_to(jnp.arange(id_BL.shape[1]), id_BL.shape)
    return Tokens(id_BL, (id_BL != 0).astype(jnp.int32), position_BL, jnp.zeros_like(id_BL))


def encode_source(model: Transformer, source_BL: jax.Array) -> EncodedSource:
    """Encodes one sentence per row; id 0 is padding."""
    tokens = one_sentence_per_row(shard(source_BL, "BL"))
    memory_BLM, _ = model.encode(tokens, decoding_groups(model.config))
    return model.cross_attention_kv(memory_BLM, tokens.segment_BL != 0)


def _select(request: Request, sentence_B: jax.Array, num_B: jax.Array) -> _Asked:
    """Returns what is asked of sentence `sentence_B` of each row, which has `num_B`."""
    index_B1 = jnp.minimum(sentence_B, request.limit_BQ.shape[1] - 1)[:, None]
    limit_B, num_beams_B, length_penalty_B = (
        jnp.take_along_axis(each_BQ, index_B1, axis=1)[:, 0] for each_BQ in request[:3]
    )
    prefix_BT = jnp.take_along_axis(request.prefix_BQT, index_B1[:, :, None], axis=1)[:, 0]
    limit_B = jnp.where(sentence_B < num_B, limit_B, 0)
    return _Asked(limit_B, num_beams_B, length_penalty_B, prefix_BT)


def _first_scores(shape_W: tuple[int, ...]) -> jax.Array:
    """All beams of a sentence start identical, so only the first one counts."""
    return jnp.full(shape_W, WORST).at[:, 0].set(0.0)


class Continued(NamedTuple):
    """The K best continuations over a row's beams, best first, and the best one of each beam."""

    score_BK: jax.Array
    beam_BK: jax.Array
    id_BK: jax.Array
    best_id_BW: jax.Array
    best_score_BW: jax.Array


def continue_beams(
    live_score_BW: jax.Array, logits_BWV: jax.Array, allowed_BWV: jax.Array | None, num: int
) -> Continued:
    """Returns the `num` best continuations by total log-probability; ties go to the first.

    `allowed_BWV` has the logits of the subwords that may come next, -inf for others; None allows
    all. Probabilities are those among all subwords.

    The best are in the `num` blocks of the vocabulary with the best maxima, so the scores of all
    subwords need not be stored. Blocks keep their order, so that ties go to the first subword.
    """
    num_rows, num_beams, vocab_size = logits_BWV.shape
    block = _block_size(vocab_size)

    def split(logits_BWV: jax.Array) -> jax.Array:
        padding = ((0, 0), (0, 0), (0, -vocab_size % block))
        logits_BWV = jnp.pad(logits_BWV, padding, constant_values=-jnp.inf)
        return logits_BWV.reshape(num_rows, num_beams, -1, block)

    logits_BWIV = split(logits_BWV)
    max_BWI = jnp.max(logits_BWIV, axis=3)
    max_BW1 = jnp.max(max_BWI, axis=2, keepdims=True)
    sum_BW = jnp.sum(jnp.exp(logits_BWIV - max_BW1[..., None]), axis=(2, 3))
    # A score is a logit minus the largest one, which is exact for the best ones, plus this.
    added_BW = live_score_BW - jnp.log(sum_BW)
    if allowed_BWV is not None:
        logits_BWIV = split(allowed_BWV)
        max_BWI = jnp.max(logits_BWIV, axis=3)

    num_blocks = max_BWI.shape[2]
    best_BI = ((max_BWI - max_BW1) + added_BW[:, :, None]).reshape(num_rows, -1)
    block_BK = jnp.sort(jax.lax.top_k(best_BI, min(num, best_BI.shape[1]))[1], axis=1)
    logits_BIV = logits_BWIV.reshape(num_rows, -1, block)
    logits_BKV = jnp.take_along_axis(logits_BIV, block_BK[:, :, None], axis=1)
    max_BK, added_BK = (
        jnp.take_along_axis(each_BW, block_BK // num_blocks, axis=1)[:, :, None]
        for each_BW in (max_BW1[:, :, 0], added_BW)
    )
    score_BKV = (logits_BKV - max_BK) + added_BK
    score_BK, index_BK = jax.lax.top_k(score_BKV.reshape(num_rows, -1), num)
    block_BK = jnp.take_along_axis(block_BK, index_BK // block, axis=1)
    id_BK = block_BK % num_blocks * block + index_BK % block

    first_BW1 = jnp.argmax(max_BWI, axis=2, keepdims=True)
    logits_BWV = jnp.take_along_axis(logits_BWIV, first_BW1[..., None], axis=2)[:, :, 0]
    best_id_BW = first_BW1[:, :, 0] * block + jnp.argmax(logits_BWV, axis=2)
    best_score_BW = (jnp.max(logits_BWV, axis=2) - max_BW1[:, :, 0]) + added_BW
    ids = (block_BK // num_blocks, id_BK.astype(jnp.int32), best_id_BW.astype(jnp.int32))
    return Continued(score_BK, *ids, best_score_BW)


def _block_size(vocab_size: int) -> int:
    """A divisor of the vocabulary size near _BLOCK, to avoid padding, or else _BLOCK."""
    divisors = [n for n in range(_BLOCK // 2, 2 * _BLOCK) if vocab_size % n == 0]
    return min(divisors, key=lambda n: abs(n - _BLOCK), default=min(_BLOCK, vocab_size))


def _advance(beams: _Beams, continued: Continued, asked: _Asked) -> _Beams:
    """Advances one position: of the 2W best continuations, ends finish, the W best others live.

    A sentence with fewer than W beams has those of its own number; the others are never chosen.
    """
    num_beams = beams.token_BW.shape[1]
    is_used_BW = jnp.arange(num_beams) < asked.num_beams_B[:, None]
    # Each beam ends in one way, so W of 2W candidates do not end; greedy search adds a candidate.
    score_BK, beam_BK, id_BK, is_greedy_BK = _with_greedy(beams.is_greedy_BW, continued)
    num_candidates = score_BK.shape[1]
    is_end_BK = id_BK == eos_id
    ids_BKT = jnp.take_along_axis(beams.live_BWT, beam_BK[:, :, None], axis=1)
    is_here_BT = jnp.arange(ids_BKT.shape[2]) == beams.position_B[:, None]
    ids_BKT = jnp.where(is_here_BT[:, None], id_BK[:, :, None], ids_BKT)

    penalty_B = penalize_length(beams.position_B + 1, asked.length_penalty_B)
    is_in_beam_BK = jnp.arange(num_candidates) < asked.num_beams_B[:, None]
    has_ended_BK = is_end_BK & (is_in_beam_BK | is_greedy_BK) & (score_BK > WORST / 2)
    ended_score_BK = jnp.where(has_ended_BK, score_BK / penalty_B[:, None], WORST)
    finished_score_BK = jnp.concatenate([beams.finished_score_BW, ended_score_BK], axis=1)
    finished_BKT = jnp.concatenate([beams.finished_BWT, ids_BKT], axis=1)
    finished_score_BW, kept_BW = jax.lax.top_k(finished_score_BK, num_beams)
    finished_score_BW = jnp.where(is_used_BW, finished_score_BW, WORST)
    finished_BWT = jnp.take_along_axis(finished_BKT, kept_BW[:, :, None], axis=1)

    live_score_BK = jnp.where(is_end_BK, WORST, jnp.maximum(score_BK, WORST))
    rank_BK = jnp.where(is_greedy_BK & ~is_end_BK, jnp.inf, live_score_BK)
    kept_BW = jax.lax.top_k(rank_BK, num_beams)[1]
    # Sorted by score again, ties by index; the added candidate comes last, unused beams after it.
    kept_BW = jnp.sort(jnp.where(is_used_BW, kept_BW, num_candidates), axis=1)
    is_kept_BW = kept_BW < num_candidates
    kept_BW = jnp.minimum(kept_BW, num_candidates - 1)
    kept_score_BW = jnp.take_along_axis(live_score_BK, kept_BW, axis=1)
    kept_score_BW = jnp.where(is_kept_BW, kept_score_BW, WORST)
    live_score_BW, order_BW = jax.lax.top_k(kept_score_BW, num_beams)
    kept_BW = jnp.take_along_axis(kept_BW, order_BW, axis=1)
    is_greedy_BW = jnp.take_along_axis(is_greedy_BK & ~is_end_BK, kept_BW, axis=1)
    parent_BW = jnp.take_along_axis(beam_BK, kept_BW, axis=1)
    return beams._replace(
        position_B=beams.position_B + 1,
        token_BW=jnp.take_along_axis(id_BK, kept_BW, axis=1),
        live_BWT=jnp.take_along_axis(ids_BKT, kept_BW[:, :, None], axis=1),
        live_score_BW=live_score_BW,
        is_greedy_BW=is_greedy_BW & (live_score_BW > WORST),
        finished_BWT=finished_BWT,
        finished_score_BW=finished_score_BW,
        cache=beams.cache.reorder(parent_BW),
    )


def _with_greedy(is_greedy_BW: jax.Array, continued: Continued) -> tuple[jax.Array, ...]:
    """Appends greedy search's continuation, if it is not among the best, as one more candidate.

    Returns the candidates' scores, beams and ids, and which one is greedy search's.
    """
    beam_B1 = jnp.argmax(is_greedy_BW, axis=1, keepdims=True)
    id_B1 = jnp.take_along_axis(continued.best_id_BW, beam_B1, axis=1)
    score_B1 = jnp.take_along_axis(continued.best_score_BW, beam_B1, axis=1)
    has_greedy_B1 = jnp.any(is_greedy_BW, axis=1, keepdims=True)
    is_same_BK = (continued.beam_BK == beam_B1) & (continued.id_BK == id_B1) & has_greedy_B1
    is_added_B1 = has_greedy_B1 & ~jnp.any(is_same_BK, axis=1, keepdims=True)
    return (
        jnp.concatenate([continued.score_BK, jnp.where(is_added_B1, score_B1, WORST)], axis=1),
        jnp.concatenate([continued.beam_BK, beam_B1], axis=1),
        jnp.concatenate([continued.id_BK, id_B1], axis=1),
        jnp.concatenate([is_same_BK, is_added_B1], axis=1),
    )


def _next_sentences(beams: _Beams, asked: _Asked) -> _Beams:
    """Stores the hypotheses of finished sentences and starts the next sentence in their rows."""
    limit_B = asked.limit_B
    is_full_B = jnp.sum(beams.finished_score_BW > WORST, axis=1) >= asked.num_beams_B
    has_greedy_B = jnp.any(beams.is_greedy_BW, axis=1)
    is_done_B = (is_full_B & ~has_greedy_B) | (beams.position_B >= limit_B)
    ids_BWT, score_BW = _best(beams, asked)
    is_current_BQ = jnp.arange(beams.found.score_BQW.shape[1]) == beams.sentence_B[:, None]
    is_new_BQ1 = (is_current_BQ & (is_done_B & (limit_B > 0))[:, None])[:, :, None]
    found = Hypotheses(
        jnp.where(is_new_BQ1[..., None], ids_BWT[:, None], beams.found.ids_BQWT),
        jnp.where(is_new_BQ1, score_BW[:, None], beams.found.score_BQW),
    )
    is_done_B1 = is_done_B[:, None]
    is_done_B11 = is_done_B1[:, :, None]
    return beams._replace(
        sentence_B=beams.sentence_B + is_done_B,
        position_B=jnp.where(is_done_B, 0, beams.position_B),
        token_BW=jnp.where(is_done_B1, bos_id, beams.token_BW),
        live_BWT=jnp.where(is_done_B11, 0, beams.live_BWT),
        live_score_BW=jnp.where(is_done_B1, _first_scores(score_BW.shape), beams.live_score_BW),
        is_greedy_BW=jnp.where(is_done_B1, jnp.arange(score_BW.shape[1]) == 0, beams.is_greedy_BW),
        finished_BWT=jnp.where(is_done_B11, 0, beams.finished_BWT),
        finished_score_BW=jnp.where(is_done_B1, WORST, beams.finished_score_BW),
        found=found,
    )


def _best(beams: _Beams, asked: _Asked) -> tuple[jax.Array, jax.Array]:
    """The finished hypotheses, or the live ones if a sentence reached its limit without any."""
    has_none_B1 = jnp.all(beams.finished_score_BW <= WORST, axis=1, keepdims=True)
    penalty_B1 = penalize_length(asked.limit_B, asked.length_penalty_B)[:, None]
    is_live_BW = beams.live_score_BW > WORST / 2
    live_score_BW = jnp.where(is_live_BW, beams.live_score_BW / penalty_B1, WORST)
    ids_BWT = jnp.where(has_none_B1[:, :, None], beams.live_BWT, beams.finished_BWT)
    return ids_BWT, jnp.where(has_none_B1, live_score_BW, beams.finished_score_BW)


def penalize_length(length_B: Any, alpha_B: Any) -> Any:
    """What log-probabilities are divided by, the end of sentence counted, as in other engines."""
    return length_B**alpha_B
