"""Restricted search equals a slow one that bars the same subwords; requests differ by sentence."""
# SPDX-License-Identifier: Apache-2.0

import functools
from collections.abc import Callable

import numpy as np
import pytest

from gshard_mt.config.records import DecodeConfig
from gshard_mt.data.tokenizer import eos_id
from gshard_mt.decode.beam import WORST
from gshard_mt.decode.restrictions import Restrictions
from tests.decode import reference
from tests.decode.test_beam import (
    BUCKET,
    LENGTHS,
    LIMITS,
    NUM_POSITIONS,
    Case,
    ask,
    dense,  # noqa: F401, a fixture
    moe,  # noqa: F401, a fixture
    padded,
    same,
    sources,
)
from tests.decode.test_sample import draw
from tests.model import tiny

STARTS_WORD_V = np.arange(tiny.TARGET_SIZE) % 3 != 0  # two of three subwords begin a word

Bar = Callable[[list[int]], set[int]]  # ids so far -> ids that may not come next


def barred(config: DecodeConfig, ids: list[int]) -> set[int]:
    """The ids that may not come next, tried one by one."""
    return {id for id in range(tiny.TARGET_SIZE) if _is_barred(config, [*ids, id])}


def _is_barred(config: DecodeConfig, ids: list[int]) -> bool:
    n = config.no_repeat_ngram
    ngrams = [tuple(ids[k : k + n]) for k in range(len(ids) - n + 1)] if n else []
    is_early = ids[-1] == eos_id and len(ids) <= config.min_length
    return (
        is_early
        or (n > 0 and ngrams[:-1].count(ngrams[-1] if ngrams else ()) > 0)
        or any(
            len(ids) >= 2 * k and ids[-k:] == ids[-2 * k : -k] and STARTS_WORD_V[ids[-k]]
            for k in range(1, config.no_stutter + 1)
        )
    )


def restricted(config: DecodeConfig, next_log_p: reference.NextLogP, prefix: list[int] = []):  # noqa: B006
    """What follows each prefix under the rules: log-probabilities, -inf where it is barred."""

    def bar(prefixes: list[list[int]]) -> np.ndarray:
        log_p_WV = next_log_p(prefixes).copy()
        for log_p_V, ids in zip(log_p_WV, prefixes, strict=True):
            if len(ids) < len(prefix):
                log_p_V[np.arange(log_p_V.size) != prefix[len(ids)]] = -np.inf
            else:
                log_p_V[list(barred(config, ids))] = -np.inf
        return log_p_WV

    return bar


RULES = {
    "nothing twice": DecodeConfig(no_repeat_ngram=1),
    "no bigram twice": DecodeConfig(no_repeat_ngram=2),
    "no stutter of one": DecodeConfig(no_stutter=1),
    "no stutter of three": DecodeConfig(no_stutter=3),
    "long": DecodeConfig(min_length=6),
    "all": DecodeConfig(no_repeat_ngram=3, no_stutter=2, min_length=4),
}


def check(case: Case, config: DecodeConfig, beam_size: int, prefixes=None) -> int:
    """Compares with the slow search; returns how many rows the rules change."""
    source_BL = sources(LENGTHS, BUCKET)
    prefix_BQT = None
    if prefixes:
        prefix_BQT = np.zeros((8, 1, 4), np.int32)
        for row, prefix in enumerate(prefixes):
            prefix_BQT[row, 0, : len(prefix)] = prefix
    limit_BQ = np.array(LIMITS)[:, None]
    found = case.search(
        beam_size,
        source_BL,
        LIMITS,
        restrictions=Restrictions(config, STARTS_WORD_V),
        request=ask(limit_BQ, beam_size, prefix_BQT=prefix_BQT),
    )
    free = case.search(beam_size, source_BL, LIMITS)
    for row, limit in enumerate(LIMITS):
        prefix = prefixes[row] if prefixes else []
        next_log_p = functools.partial(case.next_log_p, source_BL[row])
        expected, _ = reference.beam_search(
            restricted(config, next_log_p, prefix), beam_size, 0.8, eos_id, limit
        )
        for beam, hypothesis in enumerate(expected):
            assert found.ids_BWT[row, beam].tolist() == padded(hypothesis.ids)
            np.testing.assert_allclose(found.score_BW[row, beam], hypothesis.score, rtol=1e-5)
        assert np.all(found.score_BW[row, len(expected) :] == WORST)
    return int(np.any(found.ids_BWT[:, 0] != free.ids_BWT[:, 0], axis=1).sum())


@pytest.mark.parametrize("beam_size", [1, 4])
@pytest.mark.parametrize("name", RULES)
def test_the_rules_give_what_a_slow_search_with_them_gives(dense, name, beam_size):  # noqa: F811
    assert check(dense, RULES[name], beam_size) > 0


def test_rules_and_experts_go_together(moe):  # noqa: F811
    assert check(moe, RULES["all"], 4) > 0


@pytest.mark.parametrize("beam_size", [1, 4])
def test_a_forced_beginning_comes_first_whatever_the_rules(dense, beam_size):  # noqa: F811
    prefixes = [[5, 5, 5], [], [6], [7, 8], [9], [4, 4], [5], [10, 11, 12, 13]]
    config = DecodeConfig(no_stutter=2, min_length=3)
    assert check(dense, config, beam_size, prefixes) > 4


def test_the_repetition_penalty_is_that_of_the_changed_logits(dense):  # noqa: F811
    config, source_BL = DecodeConfig(repetition_penalty=1.7), sources(LENGTHS, BUCKET)
    rules = Restrictions(config, STARTS_WORD_V)
    found = dense.search(4, source_BL, LIMITS, restrictions=rules)
    changed = 0
    for row, limit in enumerate(LIMITS):

        def next_log_p(prefixes, row=row):
            logits_WV = dense.next_logits(source_BL[row], prefixes)
            for logits_V, ids in zip(logits_WV, prefixes, strict=True):
                for id in set(ids):
                    logits_V[id] *= 1.7 if logits_V[id] < 0 else 1 / 1.7
            return logits_WV - np.log(np.sum(np.exp(logits_WV), axis=1, keepdims=True))

        expected, _ = reference.beam_search(next_log_p, 4, 0.8, eos_id, limit)
        assert found.ids_BWT[row, 0].tolist() == padded(expected[0].ids)
        np.testing.assert_allclose(found.score_BW[row, 0], expected[0].score, rtol=1e-5, atol=1e-6)
        free = functools.partial(dense.next_log_p, source_BL[row])
        changed += expected[0].ids != reference.beam_search(free, 4, 0.8, eos_id, limit)[0][0].ids
    assert changed


def test_each_sentence_has_its_own_beams_and_length_penalty(moe):  # noqa: F811
    source_BL, limit_BQ = sources(LENGTHS, BUCKET), np.array(LIMITS)[:, None]
    beams = np.array([1, 4, 2, 1, 3, 2, 4, 1])[:, None]
    alphas = np.array([0.8, 0.0, 2.0, 1.0, 0.3, 0.8, 1.5, 0.0])[:, None]
    found = moe.search(4, source_BL, LIMITS, request=ask(limit_BQ, beams, alphas))
    for row, limit in enumerate(LIMITS):
        next_log_p = functools.partial(moe.next_log_p, source_BL[row])
        expected, _ = reference.beam_search(
            next_log_p, int(beams[row, 0]), float(alphas[row, 0]), eos_id, limit
        )
        for beam, hypothesis in enumerate(expected):
            assert found.ids_BWT[row, beam].tolist() == padded(hypothesis.ids)
            np.testing.assert_allclose(found.score_BW[row, beam], hypothesis.score, rtol=1e-5)
        assert np.all(found.score_BW[row, len(expected) :] == WORST)


def test_fewer_beams_of_many_find_what_a_search_of_so_many_finds(dense):  # noqa: F811
    source_BL, limit_BQ = sources(LENGTHS, BUCKET), np.array(LIMITS)[:, None]
    for beam_size in (1, 2):
        expected = dense.search(beam_size, source_BL, LIMITS)
        found = dense.search(4, source_BL, LIMITS, request=ask(limit_BQ, beam_size))
        assert np.all(found.score_BW[:, beam_size:] == WORST)
        cut = [each_BW[:, :beam_size] for each_BW in found]
        same(type(found)(*cut), expected)


def test_samples_keep_to_the_rules_and_begin_as_asked(dense):  # noqa: F811
    source_BL, config = sources(LENGTHS, BUCKET), RULES["all"]
    prefix_BQT = np.zeros((8, 1, 4), np.int32)
    prefix_BQT[::2, 0, :2] = [5, 6]
    found = draw(
        dense,
        source_BL,
        [NUM_POSITIONS] * 8,
        range(8),
        restrictions=Restrictions(config, STARTS_WORD_V),
        prefix_BQT=prefix_BQT,
    )
    for row in range(8):
        first = [5, 6] if row % 2 == 0 else []
        for ids in found.ids_BWT[row].tolist():
            ids = ids[: ids.index(eos_id) + 1] if eos_id in ids else ids
            assert ids[: len(first)] == first
            for length in range(len(first), len(ids)):
                assert ids[length] not in barred(config, ids[:length])
        # The score of the last one is its probability among all subwords.
        log_p = [dense.next_log_p(source_BL[row], [ids[:t]])[0][ids[t]] for t in range(len(ids))]
        np.testing.assert_allclose(found.score_BW[row, -1], sum(log_p), rtol=1e-4)
