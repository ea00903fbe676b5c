"""The steps that the gates have in common against loops."""
# SPDX-License-Identifier: Apache-2.0

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gshard_mt.routing.routing import (
    position_in_expert,
    take_along_experts,
    top_k_experts,
)
from tests.routing.problems import largest

SHAPES = [(1, 1, 1, 1), (2, 12, 3, 4), (1, 7, 2, 64)]  # G, S, K, E


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(SHAPES), st.integers(0, 1000))
def test_slots_count_earlier_choices_of_the_same_expert(shape, seed):
    *shape_GSK, num_experts = shape
    rng = np.random.default_rng(seed)
    expert_GSK = rng.integers(0, num_experts, shape_GSK)
    is_counted_GSK = rng.random(shape_GSK) < 0.7
    slot_GSK = jax.jit(position_in_expert, static_argnums=2)(
        expert_GSK, is_counted_GSK, num_experts
    )
    for g in range(shape[0]):
        used_E = np.zeros(num_experts, int)
        for k, s in np.ndindex(shape[2], shape[1]):
            if is_counted_GSK[g, s, k]:
                assert slot_GSK[g, s, k] == used_E[expert_GSK[g, s, k]]
                used_E[expert_GSK[g, s, k]] += 1


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([1, 3, 5]), st.integers(0, 1000))
def test_the_largest_come_first_and_the_lowest_of_equals(num_choices, seed):
    score_SE = np.random.default_rng(seed).integers(-2, 3, (9, 5)).astype(np.float32)
    expert_SK = jax.jit(top_k_experts, static_argnums=1)(score_SE, num_choices)
    assert expert_SK.dtype == jnp.int32
    np.testing.assert_array_equal(expert_SK, [largest(row, num_choices) for row in score_SE])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.int32])
def test_the_values_at_the_experts_are_taken(dtype):
    value_SE = (np.random.default_rng(0).normal(size=(6, 5)) * 100).astype(dtype)
    expert_SK = np.random.default_rng(1).integers(0, 5, (6, 2))
    found_SK = take_along_experts(jnp.asarray(value_SE), jnp.asarray(expert_SK))
    assert found_SK.dtype == dtype
    np.testing.assert_array_equal(found_SK, np.take_along_axis(value_SE, expert_SK, -1))


def test_the_gradient_of_taking_them_is_no_scatter():
    expert_SK = jnp.array([[1, 0]])
    program = jax.make_jaxpr(jax.grad(lambda x: take_along_experts(x, expert_SK).sum()))(
        jnp.ones((1, 3))
    )
    assert "scatter" not in str(program)
