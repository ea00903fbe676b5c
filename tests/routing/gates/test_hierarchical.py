"""The two-level gate against the formulas of the paper, token by token."""
# SPDX-License-Identifier: Apache-2.0

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gshard_mt.routing.gates.hierarchical import hierarchical
from gshard_mt.routing.gates.noisy_top_k import noisy_top_k
from tests.routing.gates.test_noisy_top_k import slow_choice
from tests.routing.problems import (
    assert_gradient_matches_differences,
    assert_same_routing,
    fill_slots,
    gate_inputs,
    has_near_ties,
    route,
    routing_problems,
    separated_logits,
    squared_variation,
)

# G, S, E, C, and how many groups the experts are in
SHAPES = {(1, 1, 2, 1): 2, (3, 16, 12, 5): 3, (2, 9, 3, 2): 1}


def slow_hierarchical(
    logits_GSAJ, deviation_GSAJ, noisy_GSAJ, primary, is_token_GS, capacity, num_choices
):
    primary_GSA, primary_deviation_GSA, primary_noisy_GSA = primary
    *_, num_parts, size = logits_GSAJ.shape
    num_parts_chosen, num_chosen = min(num_choices, num_parts), min(num_choices, size)
    expert_GSK = np.zeros((*is_token_GS.shape, num_parts_chosen * num_chosen), int)
    weight_GSK = np.zeros(expert_GSK.shape)
    importance_AJ, load_AJ = np.zeros((2, num_parts, size))
    primary_load_A, num_in_A = np.zeros((2, num_parts))
    for g, s in np.ndindex(is_token_GS.shape):
        chosen_A, primary_gates_A, primary_p_A = slow_choice(
            primary_GSA[g, s], primary_noisy_GSA[g, s], primary_deviation_GSA[g, s],
            num_parts_chosen,
        )  # fmt: skip
        primary_load_A += is_token_GS[g, s] * primary_p_A
        choices = []
        for a in chosen_A:
            chosen_J, gates_J, p_J = slow_choice(
                logits_GSAJ[g, s, a], noisy_GSAJ[g, s, a], deviation_GSAJ[g, s, a], num_chosen
            )
            choices += [(a * size + j, primary_gates_A[a] * gates_J[j]) for j in chosen_J]
            if is_token_GS[g, s] and primary_gates_A[a] > 1e-37:
                importance_AJ[a] += primary_gates_A[a] * gates_J
                load_AJ[a] += p_J
                num_in_A[a] += 1
        expert_GSK[g, s], weight_GSK[g, s] = zip(*choices, strict=True)
    load_AJ *= (primary_load_A / np.maximum(num_in_A, 1))[:, None]
    aux_loss = squared_variation(importance_AJ) + squared_variation(load_AJ)
    return fill_slots(expert_GSK, weight_GSK, is_token_GS, capacity, aux_loss)


@settings(max_examples=30, deadline=None)
@given(routing_problems(list(SHAPES)), st.sampled_from([1, 2]), st.booleans(), st.integers(0, 1000))
def test_hierarchical_is_the_slow_one_token_by_token(problem, num_choices, has_key, seed):
    logits_GSE, is_token_GS, capacity = problem
    num_parts = SHAPES[(*logits_GSE.shape, capacity)]
    if num_parts < 3:  # fewer programs: several with the largest shape only
        has_key, num_choices = True, num_parts
    elif num_choices == 1:
        has_key = True
    rng = np.random.default_rng(seed)
    shape_GSA = (*is_token_GS.shape, num_parts)
    shape_GSAJ = (*shape_GSA, logits_GSE.shape[-1] // num_parts)
    noise_GSE = rng.normal(size=logits_GSE.shape).astype(np.float32)
    primary_GSA = (rng.integers(-2, 3, shape_GSA) / 2).astype(np.float32)
    primary_noise_GSA = rng.normal(size=shape_GSA).astype(np.float32)
    key = jax.random.key(seed) if has_key else None
    keys = (None, None) if key is None else jax.random.split(key)

    def add_noise(logits, noise, key):
        deviation = np.logaddexp(0, noise.astype(np.float64)) + 1e-2
        noisy = (
            logits
            + (0 if key is None else np.asarray(jax.random.normal(key, logits.shape))) * deviation
        )
        assume(key is None or not has_near_ties(noisy))
        return logits.astype(np.float64), deviation, noisy

    slow = slow_hierarchical(
        *add_noise(logits_GSE.reshape(shape_GSAJ), noise_GSE.reshape(shape_GSAJ), keys[1]),
        add_noise(primary_GSA, primary_noise_GSA, keys[0]),
        is_token_GS,
        capacity,
        num_choices,
    )
    routing = route(
        hierarchical,
        *problem,
        key,
        (("num_choices", num_choices),),
        primary_GSA=primary_GSA,
        noise_GSE=noise_GSE,
        primary_noise_GSA=primary_noise_GSA,
    )
    assert_same_routing(routing, slow)


@pytest.mark.parametrize("num_parts", [1, 4])
def test_one_level_with_nothing_to_choose_leaves_the_flat_gate(num_parts):
    rng = np.random.default_rng(0)
    logits_GSE, noise_GSE = rng.normal(size=(2, 2, 10, 4)).astype(np.float32)
    is_token_GS = np.ones((2, 10), bool)
    options = (("num_choices", 2),)
    flat = route(noisy_top_k, logits_GSE, is_token_GS, 4, None, options, noise_GSE=noise_GSE)
    # With one group only its experts are chosen among, with groups of one only the groups are.
    zeros = np.zeros((2, 10, num_parts), np.float32)
    is_one = num_parts == 1
    routing = route(
        hierarchical,
        logits_GSE if is_one else zeros,
        is_token_GS,
        4,
        None,
        options,
        primary_GSA=zeros if is_one else logits_GSE,
        noise_GSE=noise_GSE if is_one else zeros,
        primary_noise_GSA=zeros if is_one else noise_GSE,
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), routing, flat)


def test_the_weights_of_all_choices_sum_to_one():
    rng = np.random.default_rng(0)
    sizes = {"logits_GSE": 12, "primary_GSA": 3, "noise_GSE": 12, "primary_noise_GSA": 3}
    inputs = {
        name: rng.normal(size=(3, 16, size)).astype(np.float32) for name, size in sizes.items()
    }
    is_token_GS = np.tile(np.arange(16) < 5, (3, 1))  # an expert has slots for all of a group
    options = (("num_choices", 2),)
    logits_GSE = inputs.pop("logits_GSE")
    routing = route(hierarchical, logits_GSE, is_token_GS, 5, jax.random.key(0), options, **inputs)
    assert routing.expert_GSK.shape == (3, 16, 4)
    np.testing.assert_allclose(routing.weight_GSK.sum(-1), is_token_GS, rtol=1e-5)


def test_gradients_of_weights_and_loss_match_finite_differences():
    rng = np.random.default_rng(1)
    is_token_GS = np.arange(8)[None] < 7
    cotangent_GSK = rng.normal(size=(1, 8, 4)).astype(np.float32)
    inputs = {
        "logits_GSE": separated_logits(0, (1, 8, 3, 3)).reshape(1, 8, 9),
        "primary_GSA": separated_logits(1, (1, 8, 3)),
        "noise_GSE": rng.normal(size=(1, 8, 9)).astype(np.float32),
        "primary_noise_GSA": rng.normal(size=(1, 8, 3)).astype(np.float32),
    }

    def scalar(products):
        logits_GSE, *_ = products.values()
        products = {name: array for name, array in products.items() if name != "logits_GSE"}
        routing = hierarchical(gate_inputs(logits_GSE, is_token_GS, 4), num_choices=2, **products)
        return jnp.sum(routing.weight_GSK * cotangent_GSK) + routing.aux_loss

    assert_gradient_matches_differences(scalar, inputs)
