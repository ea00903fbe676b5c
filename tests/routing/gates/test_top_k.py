"""The gates of the Switch Transformer and of K largest against loops over tokens."""
# SPDX-License-Identifier: Apache-2.0

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings

from gshard_mt.routing.gates.top2 import top2
from gshard_mt.routing.gates.top_k import top1, top_k
from tests.routing.problems import (
    SHAPES,
    assert_gradient_matches_differences,
    assert_same_routing,
    fill_slots,
    gate_inputs,
    largest,
    route,
    routing_problems,
    separated_logits,
    softmax,
)


def slow_top_k(logits_GSE, is_token_GS, capacity, num_choices):
    num_groups, group_size, num_experts = logits_GSE.shape
    expert_GSK = np.zeros((num_groups, group_size, num_choices), int)
    weight_GSK = np.zeros(expert_GSK.shape)
    weighted_loss = 0.0
    for g in range(num_groups):
        count_E, gates_E = np.zeros(num_experts), np.zeros(num_experts)
        for s in range(group_size):
            logits_E = logits_GSE[g, s]
            expert_GSK[g, s] = largest(logits_E, num_choices)
            chosen_K = expert_GSK[g, s]
            is_single = num_choices == 1
            weight_GSK[g, s] = (softmax(logits_E) if is_single else softmax(logits_E[chosen_K]))[
                chosen_K if is_single else slice(None)
            ]
            if is_token_GS[g, s]:
                count_E[chosen_K[0]] += 1
                gates_E += softmax(logits_E)
        tokens = max(is_token_GS[g].sum(), 1)
        weighted_loss += num_experts * (count_E * gates_E).sum() / tokens
    aux_loss = weighted_loss / max(is_token_GS.sum(), 1)
    return fill_slots(expert_GSK, weight_GSK, is_token_GS, capacity, aux_loss)


@settings(max_examples=40, deadline=None)
@given(routing_problems())
def test_top_k_is_the_slow_one_token_by_token(problem):
    logits_GSE, is_token_GS, capacity = problem
    num_choices = {2: 1, 4: 2, 64: 3}[logits_GSE.shape[-1]]
    routing = route(top_k, *problem, options=(("num_choices", num_choices),))
    assert_same_routing(routing, slow_top_k(logits_GSE, is_token_GS, capacity, num_choices))


@settings(max_examples=20, deadline=None)
@given(routing_problems(SHAPES[:1]))
def test_top1_is_top_k_of_one(problem):
    one = route(top1, *problem)
    jax.tree.map(
        np.testing.assert_array_equal, one, route(top_k, *problem, options=(("num_choices", 1),))
    )


@settings(max_examples=20, deadline=None)
@given(routing_problems(SHAPES[1:2]))
def test_top_k_of_two_is_top2_without_draws(problem):
    # Of unequal logits with equal gates top2 takes the lowest expert, top_k the largest logit.
    gates_GSE = np.sort(np.asarray(jax.jit(jax.nn.softmax)(problem[0])), axis=-1)
    logits_GSE = np.sort(problem[0], axis=-1)
    assume(np.array_equal(np.diff(gates_GSE) == 0, np.diff(logits_GSE) == 0))
    two = jax.device_get(route(top_k, *problem, options=(("num_choices", 2),)))
    other = jax.device_get(route(top2, *problem))
    for field in ("slot_GSK", "expert_GSK", "weight_GSK", "is_selected_GSK", "aux_loss"):
        a, b = getattr(two, field), getattr(other, field)
        if field in ("slot_GSK", "expert_GSK"):
            a, b = a[two.is_selected_GSK], b[two.is_selected_GSK]
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_single_choice_has_its_unnormalised_gate_as_weight():
    logits_GSE = np.log(np.array([[[0.2, 0.5, 0.3], [0.8, 0.1, 0.1]]], np.float32))
    routing = route(top1, logits_GSE, np.ones((1, 2), bool), 2)
    np.testing.assert_allclose(routing.weight_GSK[0], [[0.5], [0.8]], rtol=1e-6)


@pytest.mark.parametrize("num_choices", [1, 3])
def test_gradients_of_weights_and_loss_match_finite_differences(num_choices):
    rng = np.random.default_rng(1)
    is_token_GS = np.arange(8)[None] < 7
    cotangent_GSK = rng.normal(size=(1, 8, num_choices)).astype(np.float32)

    def scalar(logits_GSE):
        routing = top_k(gate_inputs(logits_GSE, is_token_GS, 4), num_choices=num_choices)
        return jnp.sum(routing.weight_GSK * cotangent_GSK) + routing.aux_loss

    assert_gradient_matches_differences(scalar, separated_logits(0, (1, 8, 5)))
