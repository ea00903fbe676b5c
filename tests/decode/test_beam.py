"""Cached decoding equals full decoding; beam search equals a slow one, whatever the batch."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gshard_mt.config.records import DecodeConfig
from gshard_mt.data.tokenizer import bos_id, eos_id
from gshard_mt.decode.beam import (
    WORST,
    Hypotheses,
    beam_search,
    continue_beams,
    encode_source,
    one_sentence_per_row,
)
from gshard_mt.decode.restrictions import Request, Restrictions
from gshard_mt.model.moe import decoding_groups
from gshard_mt.model.transformer import stack_encodings
from gshard_mt.partitioning.mesh import build_mesh
from gshard_mt.partitioning.placement import sharding
from tests.decode import reference
from tests.model import tiny

BUCKET, NUM_POSITIONS = 8, 12
LIMITS = [12, 12, 9, 3, 12, 7, 1, 12]
LENGTHS = [8, 3, 6, 5, 1, 4, 7, 2]


def sources(lengths: list[int], bucket: int, seed: int = 0) -> np.ndarray:
    """Random sentences [B, L], one per row, each ending with EOS, then padding."""
    source_BL = np.zeros((len(lengths), bucket), np.int32)
    for row, length in enumerate(lengths):
        if length:
            source_BL[row, : length - 1] = tiny.sentence(seed + row, length - 1, 1).source
            source_BL[row, length - 1] = eos_id
    return source_BL


FREE = Restrictions(DecodeConfig(), np.zeros(tiny.TARGET_SIZE, bool))


def ask(limit_BQ, beam_size: Any = 1, length_penalty: Any = 0.8, prefix_BQT=None) -> Request:
    """The same request for each sentence, unless arrays ask otherwise."""
    limit_BQ = np.asarray(limit_BQ, np.int32)
    if prefix_BQT is None:
        prefix_BQT = np.zeros((*limit_BQ.shape, 0), np.int32)
    return Request(
        limit_BQ,
        np.broadcast_to(np.asarray(beam_size, np.int32), limit_BQ.shape),
        np.broadcast_to(np.asarray(length_penalty, np.float32), limit_BQ.shape),
        prefix_BQT,
    )


class Found(NamedTuple):
    """The hypotheses of one sentence per row."""

    ids_BWT: Any
    score_BW: Any


class Case:
    """A random model whose hypotheses differ and may not finish, and its two ways to decode."""

    def __init__(self, config, seed):
        # An untied softmax does not repeat its input; larger parameters sharpen the predictions.
        config = dataclasses.replace(config, tie_softmax=False)
        model = tiny.make(config, seed)
        self.params = jax.tree.map(lambda array: 2.0 * array, model.params)
        self.params["softmax_VM"] = self.params["softmax_VM"].at[eos_id].mul(1.5)
        self.model, self.groups = model, decoding_groups(config)
        self.full = jax.jit(self._decode_in_full)
        self.start, self.step = jax.jit(self._start, static_argnums=2), jax.jit(self._step)
        self._searches = {}

    def _decode_in_full(self, params, source_BL, input_BT):
        """Hidden states [B, T, M], log-probabilities and logits [B, T, V], without a cache."""
        built = self.model.blueprint.build(params)
        source, target = map(one_sentence_per_row, (source_BL, input_BT))
        target = target._replace(segment_BL=jnp.ones_like(input_BT))
        memory_BLM, _ = built.encode(source, self.groups)
        hidden_BTM, _ = built.decode(memory_BLM, source.segment_BL, target, self.groups)
        logits_BTV = built.logits(hidden_BTM)
        return hidden_BTM, jax.nn.log_softmax(logits_BTV), logits_BTV

    def _start(self, params, source_BL, num_beams: int, first_step):
        built = self.model.blueprint.build(params)
        cache = built.empty_cache(source_BL.shape[0], num_beams, 20)._replace(step=first_step)
        return encode_source(built, source_BL), cache

    def _step(self, params, token_BW, position_B, cache, source):
        built = self.model.blueprint.build(params)
        return built.step(token_BW, position_B, cache, source, self.groups)

    def next_logits(self, source_L: np.ndarray, prefixes: list[list[int]]) -> np.ndarray:
        """Logits [prefix, V] of what follows up to 8 prefixes, decoded from scratch."""
        return self._decode_prefixes(source_L, prefixes, 2)

    def next_log_p(self, source_L: np.ndarray, prefixes: list[list[int]]) -> np.ndarray:
        """Log-probabilities [prefix, V] of what follows up to 8 prefixes, decoded from scratch."""
        return self._decode_prefixes(source_L, prefixes, 1)

    def _decode_prefixes(self, source_L, prefixes: list[list[int]], index: int) -> np.ndarray:
        input_BT = np.zeros((8, NUM_POSITIONS), np.int32)
        for row, prefix in enumerate(prefixes):
            input_BT[row, : len(prefix) + 1] = [bos_id, *prefix]
        found_BTV = self.full(self.params, np.tile(source_L, (8, 1)), input_BT)[index]
        return np.asarray(found_BTV)[: len(prefixes), len(prefixes[0])].astype(np.float64)

    def search(
        self, beam_size: int, source_BL, limit_B, num_positions=NUM_POSITIONS, params=None, **asked
    ) -> Found:
        limit_BQ = np.asarray(limit_B)[:, None]
        found = self.search_in_rounds(
            beam_size, [source_BL], limit_BQ, num_positions, params, **asked
        )
        return Found(found.ids_BQWT[:, 0], found.score_BQW[:, 0])

    def search_in_rounds(
        self,
        beam_size: int,
        rounds,
        limit_BQ,
        num_positions=NUM_POSITIONS,
        params=None,
        restrictions=FREE,
        request=None,
    ) -> Hypotheses:
        if (beam_size, restrictions) not in self._searches:

            @functools.partial(jax.jit, static_argnums=3)
            def run(params, rounds, request, num_positions):
                built = self.model.blueprint.build(params)
                source = stack_encodings([encode_source(built, each) for each in rounds])
                shape_WT = beam_size, num_positions
                return beam_search(built, source, request, shape_WT, restrictions)

            self._searches[beam_size, restrictions] = run
        run, params = (
            self._searches[beam_size, restrictions],
            self.params if params is None else params,
        )
        request = request or ask(limit_BQ, beam_size)
        return jax.device_get(run(params, rounds, request, num_positions))


@pytest.fixture(scope="module")
def moe():
    # Too few slots for training; decoding needs none.
    return Case(
        dataclasses.replace(tiny.with_moe(tiny.MOE, capacity_factor=0.5), dropout_rate=0.3), seed=2
    )


@pytest.fixture(scope="module")
def dense():
    return Case(tiny.DENSE, seed=1)


@pytest.fixture(scope="module", params=["moe", "dense"])
def case(request):
    return request.getfixturevalue(request.param)


# The 32 steps of the cache are read in chunks of 16: within one, across two, across the end.
@pytest.mark.parametrize("first_step", [0, 9, 27])
def test_the_cached_step_is_the_full_decoder_at_every_position(moe, first_step):
    case = moe  # every other layer of which is dense
    params = case.model.params  # unscaled: larger ones amplify rounding errors
    source_BL = sources([8, 3, 5, 1], BUCKET)
    num_rows, num_beams = 4, 2
    rng = np.random.default_rng(0)
    input_BWT = rng.integers(4, tiny.TARGET_SIZE, (num_rows, num_beams, NUM_POSITIONS))
    input_BWT[:, :, 0] = bos_id
    hidden_BTM, *_ = case.full(params, np.repeat(source_BL, num_beams, 0), input_BWT.reshape(8, -1))
    source, cache = case.start(params, source_BL, num_beams, first_step)
    for position in range(NUM_POSITIONS):
        position_B = np.full(num_rows, position, np.int32)
        hidden_BWM, cache = case.step(params, input_BWT[:, :, position], position_B, cache, source)
        np.testing.assert_allclose(
            hidden_BWM.reshape(8, -1), hidden_BTM[:, position], rtol=1e-5, atol=1e-5
        )


def padded(ids: list[int]) -> list[int]:
    """The ids with zeros up to NUM_POSITIONS."""
    return ids + [0] * (NUM_POSITIONS - len(ids))


@pytest.mark.parametrize(
    ("case", "beam_size"), [("dense", 1), ("moe", 4), ("dense", 2)], indirect=["case"]
)
def test_beam_search_equals_the_slow_search_without_a_cache(case, beam_size):
    source_BL = sources(LENGTHS, BUCKET)
    found = case.search(beam_size, source_BL, LIMITS)
    are_finished = []
    for row, limit in enumerate(LIMITS):
        next_log_p = functools.partial(case.next_log_p, source_BL[row])
        expected, is_finished = reference.beam_search(next_log_p, beam_size, 0.8, eos_id, limit)
        are_finished.append(is_finished)
        for beam, hypothesis in enumerate(expected):
            assert found.ids_BWT[row, beam].tolist() == padded(hypothesis.ids)
            np.testing.assert_allclose(found.score_BW[row, beam], hypothesis.score, rtol=1e-5)
        assert np.all(found.score_BW[row, len(expected) :] == WORST)
        assert not np.any(found.ids_BWT[row, len(expected) :])
    # The test has substance: some rows finish, some do not, and their results differ.
    assert {True, False} == set(are_finished)
    assert len({tuple(ids_T) for ids_T in found.ids_BWT[:, 0].tolist()}) >= 4


def test_one_beam_is_greedy_search(dense):
    source_BL = sources(LENGTHS, BUCKET)
    found = dense.search(1, source_BL, LIMITS)
    lengths = set()
    for row, limit in enumerate(LIMITS):
        next_log_p = functools.partial(dense.next_log_p, source_BL[row])
        expected = reference.greedy(next_log_p, eos_id, limit)
        assert found.ids_BWT[row, 0].tolist() == padded(expected)
        lengths.add(len(expected))
    assert len(lengths) > 3


def test_the_best_hypothesis_comes_first(moe):
    score_BW = moe.search(4, sources(LENGTHS, BUCKET), LIMITS).score_BW
    assert np.all(np.diff(score_BW, axis=1) <= 0)
    assert np.all(score_BW[:, 0] > WORST)
    assert np.any(np.diff(score_BW, axis=1) < 0)


def same(found: Found, expected: Found):
    """Asserts equal ids, apart from zeros at the end, and equal scores."""
    num_positions = min(found.ids_BWT.shape[2], expected.ids_BWT.shape[2])
    for ids_BWT in (found.ids_BWT, expected.ids_BWT):
        assert not np.any(ids_BWT[:, :, num_positions:])
    np.testing.assert_array_equal(
        found.ids_BWT[:, :, :num_positions], expected.ids_BWT[:, :, :num_positions]
    )
    np.testing.assert_allclose(found.score_BW, expected.score_BW, rtol=1e-5)


def test_a_result_does_not_depend_on_the_rest_of_the_batch(moe):
    source_BL = sources(LENGTHS, BUCKET)
    expected = moe.search(4, source_BL, LIMITS)
    others_BL = sources([7, 7, 7, 7, 7, 7, 7, 7], BUCKET, seed=50)
    for rows, limit in (([0, 2, 4], 12), ([1, 3, 5, 7], 2), ([6, 0], 0)):
        mixed_BL, limit_B = others_BL.copy(), np.full(8, limit)
        moved = [7 - row for row in rows]  # the rows change position, too
        mixed_BL[moved] = source_BL[rows]
        limit_B[moved] = np.array(LIMITS)[rows]
        found = moe.search(4, mixed_BL, limit_B)
        same(*(Found(*(a[i] for a in h)) for h, i in ((found, moved), (expected, rows))))


def test_a_result_does_not_depend_on_the_round_nor_on_the_bucket(moe):
    source_BL = sources(LENGTHS, BUCKET)
    expected = moe.search(4, source_BL, LIMITS)
    # Three rounds of three rows, of which the last one has no sentence in the last round.
    rounds = [[7, 1, 0], [4, 2, 6], [3, 5, None]]
    limit_BQ = np.zeros((3, 3), np.int32)
    round_sources = np.zeros((3, 3, 2 * BUCKET), np.int32)
    for q, numbers in enumerate(rounds):
        for row, number in enumerate(numbers):
            if number is not None:
                round_sources[q, row, :BUCKET] = source_BL[number]
                limit_BQ[row, q] = LIMITS[number]
    found = moe.search_in_rounds(4, list(round_sources), limit_BQ, 20)
    for q, numbers in enumerate(rounds):
        for row, number in enumerate(numbers):
            if number is not None:
                one = Found(found.ids_BQWT[[row], q], found.score_BQW[[row], q])
                same(one, Found(expected.ids_BWT[[number]], expected.score_BW[[number]]))
    assert not found.ids_BQWT[2, 2].any() and np.isfinite(found.score_BQW).all()


def test_a_row_of_padding_is_harmless(moe):
    source_BL, limit_B = sources(LENGTHS, BUCKET), np.array(LIMITS)
    expected = moe.search(4, source_BL, limit_B)
    source_BL[[1, 4]], limit_B[[1, 4]] = 0, 0
    found = moe.search(4, source_BL, limit_B)
    assert not np.any(found.ids_BWT[[1, 4]])
    assert np.all(np.isfinite(found.score_BW))
    rest = [0, 2, 3, 5, 6, 7]
    same(*(Found(*(array[rest] for array in h)) for h in (found, expected)))


def test_eight_devices_find_what_one_does(moe):
    source_BL = sources(LENGTHS, BUCKET)
    params = moe.model.params  # unscaled: larger ones amplify rounding errors
    expected = moe.search(4, source_BL, LIMITS, params=params)
    mesh = build_mesh(2, 4)
    blueprint = tiny.abstract_model(moe.model.config, tiny.VOCAB_SIZES, mesh)
    params = jax.tree.map(
        lambda array, like: jax.device_put(array, like.sharding), params, blueprint.params
    )
    placed = (
        jax.device_put(source_BL, sharding(mesh, "BL", 2)),
        Request(
            *(
                jax.device_put(each, sharding(mesh, "BQT"[: each.ndim], each.ndim))
                for each in ask(np.array(LIMITS)[:, None], 4)
            )
        ),
    )

    @jax.jit
    def run(params, source_BL, request):
        built = blueprint.build(params)
        source = stack_encodings([encode_source(built, source_BL)])
        return beam_search(built, source, request, (4, NUM_POSITIONS), FREE)

    with jax.set_mesh(mesh):
        found = jax.device_get(run(params, *placed))
    same(Found(found.ids_BQWT[:, 0], found.score_BQW[:, 0]), expected)


@pytest.mark.parametrize("size", [7, 300, 2048, 5000])
def test_the_best_continuations_are_found_and_ties_go_to_the_first(size):
    rng = np.random.default_rng(size)
    logits_BWV = rng.integers(0, size // 3, (6, 3, size)).astype(np.float32) / size  # many equal
    logits_BWV[0] = 1.0
    live_BW = np.array([0.0, -1.0, -1.0], np.float32) * rng.integers(0, 2, (6, 1))
    found = jax.device_get(jax.jit(continue_beams, static_argnums=3)(live_BW, logits_BWV, None, 6))
    log_p_BWV = logits_BWV - np.log(np.sum(np.exp(logits_BWV), axis=2, keepdims=True))
    score_BK = (live_BW[:, :, None] + log_p_BWV).reshape(6, -1)
    best_BK = np.sort(-score_BK, axis=1)[:, :6]
    np.testing.assert_allclose(found.score_BK, -best_BK, rtol=1e-5)
    # Equal logits of a beam give equal scores, to the last bit, so the first id comes first.
    for row in range(6):
        for beam in range(3):
            ids = found.id_BK[row][found.beam_BK[row] == beam]
            expected = np.argsort(-logits_BWV[row, beam], kind="stable")[: len(ids)]
            np.testing.assert_array_equal(ids, expected)


# On these seeds, plain beam search loses greedy search's hypothesis and finds nothing as good.
@pytest.mark.parametrize("seed", [0, 8, 9])
def test_nothing_worse_is_found_than_by_greedy_search(dense, seed):
    source_BL, limits = sources([8, 3, 6, 5, 1, 4, 7, 2], BUCKET, seed=100 * seed), [12] * 8
    greedy = dense.search(1, source_BL, limits)
    has_ended_B = (greedy.ids_BWT == eos_id).any(axis=(1, 2))
    assert has_ended_B.any()
    for beam_size in (2, 4):
        found = dense.search(beam_size, source_BL, limits)
        lead_B = found.score_BW[:, 0] - greedy.score_BW[:, 0]
        assert np.all(lead_B[has_ended_B] >= -1e-5)
