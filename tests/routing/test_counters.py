"""Counters against loops over tokens and choices."""
# SPDX-License-Identifier: Apache-2.0

import functools

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gshard_mt.routing.counters import count
from gshard_mt.routing.gates.top2 import top2
from gshard_mt.routing.gates.top_k import top_k
from tests.routing.problems import SHAPES, gate_inputs, route, routing_problems, softmax

NUM_PAIRS = 3


@functools.partial(jax.jit, static_argnames=("num_pairs", "num_experts"))
def count_quickly(routing, logits_GSE, is_token_GS, pair_GS, num_pairs, num_experts):
    return count(routing, logits_GSE, is_token_GS, pair_GS, num_pairs, num_experts)


def slow_count(routing, logits_GSE, is_token_GS, pair_GS):
    num_choices, num_experts = routing.expert_GSK.shape[-1], logits_GSE.shape[-1]
    tokens_X, entropy_X = np.zeros(NUM_PAIRS, int), np.zeros(NUM_PAIRS)
    dispatched_XK = np.zeros((NUM_PAIRS, num_choices + 1), int)
    selected_XK, over_XK = np.zeros((2, NUM_PAIRS, num_choices), int)
    load_XE = np.zeros((NUM_PAIRS, num_experts), int)
    expert_GSK, _, weight_GSK, is_selected_GSK = (np.asarray(x) for x in routing[:4])
    for g, s in zip(*np.nonzero(is_token_GS), strict=True):
        x, num_dispatched = pair_GS[g, s], 0
        p_E = softmax(logits_GSE[g, s])
        entropy_X[x] -= sum(p * np.log(p) for p in p_E if p > 0)
        tokens_X[x] += 1
        for k in range(num_choices):
            is_dispatched = weight_GSK[g, s, k] > 0
            selected_XK[x, k] += is_selected_GSK[g, s, k]
            over_XK[x, k] += is_selected_GSK[g, s, k] and not is_dispatched
            load_XE[x, expert_GSK[g, s, k]] += is_dispatched
            num_dispatched += is_dispatched
        dispatched_XK[x, num_dispatched] += 1
    return tokens_X, dispatched_XK, selected_XK, over_XK, load_XE, entropy_X


@settings(max_examples=30, deadline=None)
@given(routing_problems(SHAPES[1:]), st.integers(0, 1000))
def test_counters_are_the_slow_ones(problem, seed):
    logits_GSE, is_token_GS, capacity = problem
    routing = route(top2, logits_GSE, is_token_GS, capacity, jax.random.key(seed))
    pair_GS = np.random.default_rng(seed).integers(0, NUM_PAIRS, is_token_GS.shape)
    num_experts = logits_GSE.shape[-1]
    counters = count_quickly(routing, logits_GSE, is_token_GS, pair_GS, NUM_PAIRS, num_experts)
    *exact, entropy_X = slow_count(routing, logits_GSE, is_token_GS, pair_GS)
    for found, expected in zip(counters[:-1], exact, strict=True):
        assert found.dtype == jnp.int32
        np.testing.assert_array_equal(found, expected)
    assert counters.entropy_X.dtype == jnp.float32
    np.testing.assert_allclose(counters.entropy_X, entropy_X, rtol=1e-5, atol=1e-5)
    # Selected and not over capacity is dispatched, and every dispatched choice loads an expert.
    num_dispatched_X = counters.num_dispatched_XK @ np.arange(3)
    np.testing.assert_array_equal(num_dispatched_X, counters.load_XE.sum(-1))
    num_kept_X = (counters.num_selected_XK - counters.num_over_capacity_XK).sum(-1)
    np.testing.assert_array_equal(num_dispatched_X, num_kept_X)


def make_problem():
    """Of a shape whose programs are compiled anyway; with a capacity of 5."""
    logits_GSE = np.random.default_rng(0).normal(size=(3, 16, 4)).astype(np.float32)
    return logits_GSE, np.arange(16) < np.array([[16], [7], [0]])


ONE_PAIR_GS = np.zeros((3, 16), np.int32)


def test_the_pair_of_padding_does_not_matter():
    logits_GSE, is_token_GS = make_problem()
    routing = route(top_k, logits_GSE, is_token_GS, 5, options=(("num_choices", 3),))
    one, other = (
        count_quickly(routing, logits_GSE, is_token_GS, np.where(is_token_GS, 1, n), NUM_PAIRS, 4)
        for n in (0, -1)
    )
    jax.tree.map(np.testing.assert_array_equal, one, other)
    assert one.num_tokens_X.tolist() == [0, 23, 0]
    assert one.num_dispatched_XK.shape == (3, 4) and one.num_selected_XK.shape == (3, 3)


def test_without_logits_the_entropy_is_0_and_the_rest_is_the_same():
    logits_GSE, is_token_GS = make_problem()
    routing = route(top2, logits_GSE, is_token_GS, 5)
    with_logits = count_quickly(routing, logits_GSE, is_token_GS, ONE_PAIR_GS, 1, 4)
    without = count_quickly(routing, None, is_token_GS, ONE_PAIR_GS, 1, 4)
    jax.tree.map(np.testing.assert_array_equal, with_logits[:-1], without[:-1])
    assert without.entropy_X == 0 and with_logits.entropy_X > 0


def test_the_entropy_of_equal_logits_is_the_logarithm_of_e_a_token():
    logits_GSE, is_token_GS = np.zeros((3, 16, 4), np.float32), np.ones((3, 16), bool)
    routing = route(top2, logits_GSE, is_token_GS, 5)
    counters = count_quickly(routing, logits_GSE, is_token_GS, ONE_PAIR_GS, 1, 4)
    np.testing.assert_allclose(counters.entropy_X, 3 * 16 * np.log(4), rtol=1e-6)


def test_counting_has_no_gradient_and_no_scatter():
    logits_GSE, is_token_GS = make_problem()

    def entropy(logits_GSE):
        routing = top2(gate_inputs(logits_GSE, is_token_GS, 5))
        return count_quickly(routing, logits_GSE, is_token_GS, ONE_PAIR_GS, 1, 4).entropy_X.sum()

    assert not np.any(jax.jit(jax.grad(entropy))(logits_GSE))
    routing = route(top2, logits_GSE, is_token_GS, 5)
    program = jax.make_jaxpr(
        lambda routing: count_quickly(routing, logits_GSE, is_token_GS, ONE_PAIR_GS, 1, 4)
    )(routing)
    assert "scatter" not in str(program)
