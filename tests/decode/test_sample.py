"""Samples follow the model's distribution and depend only on the sentence and its key."""
# SPDX-License-Identifier: Apache-2.0

import functools

import jax
import numpy as np
import pytest

from gshard_mt.data.tokenizer import eos_id
from gshard_mt.decode.beam import encode_source
from gshard_mt.decode.sample import Randomness, sample
from tests.decode import reference
from tests.decode.test_beam import (
    BUCKET,
    FREE,
    LENGTHS,
    LIMITS,
    NUM_POSITIONS,
    Case,
    Found,
    ask,
    padded,
    sources,
)
from tests.model import tiny

NUM_SAMPLES = 64  # of a sentence


@pytest.fixture(scope="module")
def case() -> Case:
    return Case(tiny.DENSE, seed=4)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _run(case, restrictions, params, source_BL, request, number_B, temperature):
    built = case.model.blueprint.build(params)
    key_B = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(3), number_B)
    source, shape_WT = encode_source(built, source_BL), (NUM_SAMPLES, NUM_POSITIONS)
    found = sample(built, source, request, Randomness(key_B, temperature), shape_WT, restrictions)
    return Found(found.ids_BQWT[:, 0], found.score_BQW[:, 0])


def draw(case, source_BL, limits, numbers, temperature=1.0, restrictions=FREE, prefix_BQT=None):
    request = ask(np.array(limits)[:, None], prefix_BQT=prefix_BQT)
    arrays = source_BL, request, np.array(numbers, np.uint32)
    return jax.device_get(_run(case, restrictions, case.params, *arrays, temperature))


def test_first_words_are_as_frequent_as_they_are_probable(case):
    source_BL = np.tile(sources([6], BUCKET), (8, 1))
    found = draw(case, source_BL, [1] * 8, range(8))
    counts = np.bincount(found.ids_BWT[:, :, 0].ravel(), minlength=tiny.TARGET_SIZE)
    expected = np.exp(case.next_log_p(source_BL[0], [[]])[0])
    assert counts.sum() == 512
    # Multinomial: the standard deviation of a count is sqrt(n p (1 - p)); five are allowed.
    deviation = np.sqrt(512 * expected * (1 - expected)) + 0.5
    assert np.all(np.abs(counts - 512 * expected) < 5 * deviation)
    assert np.count_nonzero(counts) > 5


def test_scores_are_the_log_probabilities_of_the_samples(case):
    source_BL = sources(LENGTHS, BUCKET)
    found = draw(case, source_BL, LIMITS, range(8))
    assert np.all(np.diff(found.score_BW, axis=1) <= 0)
    for row, limit in enumerate(LIMITS):
        for ids, score in zip(
            found.ids_BWT[row, ::32].tolist(), found.score_BW[row, ::32], strict=True
        ):
            length = ids.index(eos_id) + 1 if eos_id in ids else limit
            assert not any(ids[length:])
            steps = range(length)
            log_p = [case.next_log_p(source_BL[row], [ids[:t]])[0][ids[t]] for t in steps]
            np.testing.assert_allclose(score, sum(log_p), rtol=1e-4)


def test_a_sample_does_not_depend_on_the_rest_of_the_batch(case):
    source_BL = sources(LENGTHS, BUCKET)
    expected = draw(case, source_BL, LIMITS, range(8))
    order = [3, 1, 0, 2, 7, 5, 6, 4]
    found = draw(case, source_BL[order], np.array(LIMITS)[order], order)
    np.testing.assert_array_equal(found.ids_BWT, expected.ids_BWT[order])
    others = draw(case, source_BL, LIMITS, range(8, 16))
    assert (others.ids_BWT != expected.ids_BWT).any()


def test_a_low_temperature_is_greedy(case):
    source_BL = sources(LENGTHS, BUCKET)
    found = draw(case, source_BL, LIMITS, range(8), temperature=1e-4)
    for row, limit in enumerate(LIMITS):
        next_log_p = functools.partial(case.next_log_p, source_BL[row])
        expected = padded(reference.greedy(next_log_p, eos_id, limit))
        np.testing.assert_array_equal(found.ids_BWT[row], [expected] * NUM_SAMPLES)
