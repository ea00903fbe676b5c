"""Noisy top-K gating against the formulas of the paper, token by token."""
# SPDX-License-Identifier: Apache-2.0

import math

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gshard_mt.routing.gates.noisy_top_k import choose_noisy, noisy_top_k
from tests.routing.problems import (
    assert_gradient_matches_differences,
    assert_same_routing,
    fill_slots,
    gate_inputs,
    has_near_ties,
    largest,
    route,
    routing_problems,
    separated_logits,
    softmax,
    squared_variation,
)

choose = jax.jit(choose_noisy, static_argnums=2)


def slow_choice(logits_E, noisy_E, deviation_E, num_choices):
    """Returns the choices of one token, its gates and its P(x, i)."""
    num_experts = len(logits_E)
    chosen_K = largest(noisy_E, num_choices)
    gates_E = np.zeros(num_experts)
    gates_E[chosen_K] = softmax(noisy_E[chosen_K])
    load_E = np.ones(num_experts)
    for i in range(num_experts):
        others = sorted(np.delete(noisy_E, i), reverse=True)
        if num_choices <= len(others):  # else there is room for all
            z = (logits_E[i] - others[num_choices - 1]) / deviation_E[i]
            load_E[i] = 0.5 * math.erfc(-z / math.sqrt(2))
    return chosen_K, gates_E, load_E


def slow_noisy_top_k(logits_GSE, noise_GSE, draws_GSE, is_token_GS, capacity, num_choices):
    logits_GSE = logits_GSE.astype(np.float64)
    deviation_GSE = np.logaddexp(0, noise_GSE) + 1e-2
    noisy_GSE = logits_GSE + draws_GSE * deviation_GSE
    importance_E, load_E = np.zeros((2, logits_GSE.shape[-1]))
    expert_GSK = np.zeros((*is_token_GS.shape, num_choices), int)
    weight_GSK = np.zeros(expert_GSK.shape)
    for g, s in np.ndindex(is_token_GS.shape):
        chosen_K, gates_E, p_E = slow_choice(
            logits_GSE[g, s], noisy_GSE[g, s], deviation_GSE[g, s], num_choices
        )
        expert_GSK[g, s], weight_GSK[g, s] = chosen_K, gates_E[chosen_K]
        importance_E += is_token_GS[g, s] * gates_E
        load_E += is_token_GS[g, s] * p_E
    aux_loss = squared_variation(importance_E) + squared_variation(load_E)
    return fill_slots(expert_GSK, weight_GSK, is_token_GS, capacity, aux_loss)


@settings(max_examples=40, deadline=None)
@given(routing_problems(), st.booleans(), st.integers(0, 1000))
def test_noisy_top_k_is_the_slow_one_token_by_token(problem, has_key, seed):
    logits_GSE, is_token_GS, capacity = problem
    num_choices = {2: 2, 4: 2, 64: 1}[logits_GSE.shape[-1]]
    if logits_GSE.shape[-1] != 4:  # fewer programs: without a key with one shape only
        has_key = True
    noise_GSE = np.random.default_rng(seed).normal(size=logits_GSE.shape).astype(np.float32)
    key = jax.random.key(seed) if has_key else None
    draws_GSE = (
        np.zeros(logits_GSE.shape) if key is None else jax.random.normal(key, logits_GSE.shape)
    )
    if has_key:
        deviation_GSE = np.logaddexp(0, noise_GSE) + 1e-2
        assume(not has_near_ties(logits_GSE + draws_GSE * deviation_GSE))
    options = (("num_choices", num_choices),)
    routing = route(noisy_top_k, *problem, key, options, noise_GSE=noise_GSE)
    slow = slow_noisy_top_k(
        logits_GSE, noise_GSE, np.asarray(draws_GSE), is_token_GS, capacity, num_choices
    )
    assert_same_routing(routing, slow)


def test_load_is_how_often_an_expert_is_chosen_when_its_own_noise_is_drawn_again():
    rng = np.random.default_rng(0)
    logits_E, noise_E, draws_E = rng.normal(size=(3, 6))
    deviation_E = np.logaddexp(0, noise_E) + 1e-2
    key = jax.random.key(0)
    draws_E = np.asarray(jax.random.normal(key, (6,)))
    expected_E = []
    for i in range(6):
        noisy_RE = np.tile(logits_E + draws_E * deviation_E, (40_000, 1))
        noisy_RE[:, i] = logits_E[i] + rng.normal(size=40_000) * deviation_E[i]
        rank_R = (noisy_RE > noisy_RE[:, i : i + 1]).sum(-1)
        expected_E.append(np.mean(rank_R < 2))
    choices = choose(logits_E.astype(np.float32), noise_E.astype(np.float32), 2, key)
    # 40,000 trials: five standard deviations are at most 0.0125.
    np.testing.assert_allclose(choices.load_E, expected_E, atol=0.0125)


def test_weights_of_zero_load_all_experts_alike():
    zeros_GSE = np.zeros((4, 2000, 8), np.float32)
    is_token_GS = np.ones((4, 2000), bool)
    options = (("num_choices", 2),)
    routing = route(
        noisy_top_k,
        zeros_GSE,
        is_token_GS,
        2000,
        jax.random.key(0),
        options,
        noise_GSE=zeros_GSE,
    )
    count_E = np.bincount(np.ravel(routing.expert_GSK), minlength=8)
    # 8,000 tokens of probability 1/4: five standard deviations are 194.
    np.testing.assert_allclose(count_E, 2000, atol=194)
    assert routing.aux_loss < 2e-3


def test_the_load_of_as_many_choices_as_experts_is_the_number_of_tokens():
    logits_GSE = np.random.default_rng(0).normal(size=(1, 5, 3)).astype(np.float32)
    choices = choose(logits_GSE, logits_GSE, 3, None)
    np.testing.assert_array_equal(choices.load_E, np.ones((1, 5, 3)))
    np.testing.assert_allclose(choices.gates_E.sum(-1), 1.0, rtol=1e-6)


def test_gradients_of_weights_and_loss_match_finite_differences():
    rng = np.random.default_rng(1)
    cotangent_GSK = rng.normal(size=(1, 8, 2)).astype(np.float32)
    inputs = {
        "logits_GSE": separated_logits(0, (1, 8, 5)),
        "noise_GSE": rng.normal(size=(1, 8, 5)).astype(np.float32),
    }

    def scalar(inputs):
        is_token_GS = np.arange(8)[None] < 7
        gate = gate_inputs(inputs["logits_GSE"], is_token_GS, 4)
        routing = noisy_top_k(gate, num_choices=2, noise_GSE=inputs["noise_GSE"])
        return jnp.sum(routing.weight_GSK * cotangent_GSK) + routing.aux_loss

    assert_gradient_matches_differences(scalar, inputs)


def test_the_scale_of_the_noise_learns_from_the_weights_of_noisy_choices():
    logits_GSE = np.random.default_rng(0).normal(size=(1, 6, 4)).astype(np.float32)

    def scalar(noise_GSE):
        is_token_GS = np.ones((1, 6), bool)
        inputs = gate_inputs(logits_GSE, is_token_GS, 6, jax.random.key(1))
        routing = noisy_top_k(inputs, num_choices=2, noise_GSE=noise_GSE)
        return jnp.sum(routing.weight_GSK[..., 0])

    assert np.any(jax.jit(jax.grad(scalar))(np.zeros((1, 6, 4), np.float32)))
