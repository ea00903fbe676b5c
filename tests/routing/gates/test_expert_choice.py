"""Expert choice against loops over experts and tokens."""
# SPDX-License-Identifier: Apache-2.0

import math

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import assume, given, settings

from gshard_mt.routing.gates.expert_choice import expert_choice
from tests.routing.problems import (
    assert_gradient_matches_differences,
    gate_inputs,
    has_near_ties,
    largest,
    route,
    routing_problems,
    softmax,
)

# By the number of experts: choices a token may keep, and the capacity factor.
OPTIONS = {2: (1, 1.0), 4: (100, 1.9), 64: (2, 20.0)}


def slow_expert_choice(score_GSE, is_token_GS, capacity, num_choices, capacity_factor):
    """Returns `[G, S, E]`: the score of an expert that chose the token and was kept, else 0."""
    num_groups, _, num_experts = score_GSE.shape
    weight_GSE = np.zeros(score_GSE.shape)
    for g in range(num_groups):
        tokens = np.flatnonzero(is_token_GS[g])
        num_taken = max(1, math.ceil(capacity_factor * len(tokens) / num_experts - 1e-9))
        for e in range(num_experts):
            for s in tokens[largest(score_GSE[g, tokens, e], min(num_taken, capacity))]:
                weight_GSE[g, s, e] = score_GSE[g, s, e]
        for s in tokens:
            weight_GSE[g, s, largest(weight_GSE[g, s], num_experts)[num_choices:]] = 0
    return np.where(weight_GSE < 1e-37, 0, weight_GSE)


@settings(max_examples=40, deadline=None)
@given(routing_problems())
def test_expert_choice_is_the_slow_one(problem):
    logits_GSE, is_token_GS, capacity = problem
    num_choices, capacity_factor = OPTIONS[logits_GSE.shape[-1]]
    # Softmax of a grid rounds equal scores apart: only distinct ones have a certain order.
    rng = np.random.default_rng(0)
    logits_GSE += rng.normal(size=logits_GSE.shape).astype(np.float32) / 8
    score_GSE = softmax(logits_GSE)
    assume(not has_near_ties(score_GSE) and not has_near_ties(score_GSE, axis=1))
    options = (("num_choices", num_choices), ("capacity_factor", capacity_factor))
    routing = route(expert_choice, logits_GSE, is_token_GS, capacity, options=options)
    routing = jax.device_get(routing)
    weight_GSE = np.zeros(score_GSE.shape)
    for g, s, k in zip(*np.nonzero(routing.weight_GSK), strict=True):
        weight_GSE[g, s, routing.expert_GSK[g, s, k]] += routing.weight_GSK[g, s, k]
    slow_GSE = slow_expert_choice(score_GSE, is_token_GS, capacity, num_choices, capacity_factor)
    np.testing.assert_array_equal(weight_GSE > 0, slow_GSE > 0)
    np.testing.assert_allclose(weight_GSE, slow_GSE, atol=1e-6)
    np.testing.assert_array_equal(routing.is_selected_GSK, routing.weight_GSK > 0)
    assert routing.expert_GSK.shape[-1] == min(num_choices, logits_GSE.shape[-1])
    assert routing.aux_loss == 0


def test_every_expert_is_as_full_as_any_other():
    logits_GSE = np.random.default_rng(0).normal(size=(2, 32, 8)).astype(np.float32)
    logits_GSE[..., 0] += 5
    options = (("num_choices", 8), ("capacity_factor", 2.0))
    routing = route(expert_choice, logits_GSE, np.ones((2, 32), bool), 8, options=options)
    count_E = np.bincount(np.asarray(routing.expert_GSK)[routing.weight_GSK > 0], minlength=8)
    np.testing.assert_array_equal(count_E, 2 * 8)


def test_of_equal_scores_the_first_tokens_are_taken():
    options = (("num_choices", 3), ("capacity_factor", 1.0))
    zeros_GSE, is_token_GS = np.zeros((1, 6, 3), np.float32), np.arange(6)[None] > 0
    routing = route(expert_choice, zeros_GSE, is_token_GS, 6, options=options)
    is_routed_S = np.any(np.asarray(routing.weight_GSK[0]) > 0, axis=-1)
    np.testing.assert_array_equal(is_routed_S, [False, True, True, False, False, False])


def test_a_shorter_bucket_has_the_same_routing():
    logits_GSE = np.random.default_rng(0).normal(size=(2, 20, 4)).astype(np.float32)
    is_token_GS = np.arange(20)[None] < np.array([[9], [12]])
    options = (("num_choices", 2), ("capacity_factor", 1.5))
    long = jax.device_get(route(expert_choice, logits_GSE, is_token_GS, 8, options=options))
    shorter = logits_GSE[:, :12], is_token_GS[:, :12]
    short = jax.device_get(route(expert_choice, *shorter, 5, options=options))
    for a, b in zip(long[:4], short[:4], strict=True):
        is_selected_GSK = short.is_selected_GSK
        np.testing.assert_array_equal(a[:, :12][is_selected_GSK], b[is_selected_GSK])
    assert not np.any(long.weight_GSK[:, 12:])


def test_gradients_of_weights_match_finite_differences():
    cotangent_GSK = np.random.default_rng(0).normal(size=(1, 6, 2)).astype(np.float32)

    def smallest_gap(logits_SE):
        score_SE = softmax(logits_SE)
        return min(np.diff(np.sort(score_SE, axis=axis), axis=axis).min() for axis in (0, 1))

    # Scores so far apart, along experts and along tokens, that no step changes a choice.
    seeds = (np.random.default_rng(seed).normal(size=(6, 4)) for seed in range(10_000))
    logits_SE = next(logits_SE for logits_SE in seeds if smallest_gap(logits_SE) > 0.02)

    def scalar(logits_GSE):
        inputs = gate_inputs(logits_GSE, np.arange(6)[None] < 5, 4)
        routing = expert_choice(inputs, num_choices=2, capacity_factor=2.0)
        return jnp.sum(routing.weight_GSK * cotangent_GSK)

    assert_gradient_matches_differences(scalar, logits_SE.astype(np.float32)[None])
