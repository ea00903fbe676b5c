"""The two forms of dispatch and combine are one function, in outputs and in gradients."""
# SPDX-License-Identifier: Apache-2.0

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gshard_mt.routing.dispatch import DISPATCHES
from gshard_mt.routing.gates.top2 import top2
from tests.routing.problems import route

SHAPES = [(1, 1, 2, 1), (2, 16, 4, 3), (3, 12, 8, 12)]  # G, S, E, C
MODEL_DIM = 5


def make_problem(shape, seed, dtype=np.float32):
    num_groups, group_size, num_experts, capacity = shape
    rng = np.random.default_rng(seed)
    logits_GSE = 2 * rng.normal(size=(num_groups, group_size, num_experts)).astype(np.float32)
    is_token_GS = rng.random((num_groups, group_size)) < 0.9
    routing = route(top2, logits_GSE, is_token_GS, capacity, jax.random.key(seed))
    x_GSM = rng.normal(size=(num_groups, group_size, MODEL_DIM)).astype(dtype)
    return x_GSM, jax.device_get(routing)


def round_trip(form, x_GSM, weight_GSK, routing, shape):
    """Dispatches, transforms every slot differently, as distinct experts do, and combines."""
    _, _, num_experts, capacity = shape
    routing = routing._replace(weight_GSK=weight_GSK)
    x_GECM = DISPATCHES[form].dispatch(x_GSM, routing, num_experts, capacity)
    scale_GEC = jnp.cos(jnp.arange(x_GECM[..., 0].size)).reshape(x_GECM.shape[:3])
    y_GECM = (jnp.sin(x_GECM) * scale_GEC[..., None]).astype(x_GSM.dtype)
    return x_GECM, DISPATCHES[form].combine(y_GECM, routing)


@functools.partial(jax.jit, static_argnames=("form", "shape"))
def dispatch_and_combine(form, x_GSM, routing, shape):
    x_GECM = DISPATCHES[form].dispatch(x_GSM, routing, *shape[2:])
    return x_GECM, DISPATCHES[form].combine(x_GECM, routing)


@functools.partial(jax.jit, static_argnames=("form", "shape"))
def outputs_and_gradients(form, x_GSM, routing, shape):
    outputs, pull_back = jax.vjp(
        lambda x, weight: round_trip(form, x, weight, routing, shape), x_GSM, routing.weight_GSK
    )
    return outputs, pull_back(jax.tree.map(lambda y: jnp.cos(3 * y), outputs))


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(SHAPES), st.integers(0, 10_000))
def test_both_forms_agree_in_outputs_and_gradients(shape, seed):
    x_GSM, routing = make_problem(shape, seed)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6),
        outputs_and_gradients("slots", x_GSM, routing, shape),
        outputs_and_gradients("einsum", x_GSM, routing, shape),
    )


@pytest.mark.parametrize("form", sorted(DISPATCHES))
def test_a_slot_holds_its_token_and_an_empty_one_holds_zeros(form):
    shape = num_groups, _, num_experts, capacity = SHAPES[1]
    x_GSM, routing = make_problem(shape, 0)
    expected_GECM = np.zeros((num_groups, num_experts, capacity, MODEL_DIM), np.float32)
    for g, s, k in zip(*np.nonzero(routing.weight_GSK), strict=True):
        expected_GECM[g, routing.expert_GSK[g, s, k], routing.slot_GSK[g, s, k]] = x_GSM[g, s]
    x_GECM, _ = dispatch_and_combine(form, x_GSM, routing, shape)
    np.testing.assert_array_equal(x_GECM, expected_GECM)
    assert not np.all(x_GECM)  # there are empty slots


@pytest.mark.parametrize("form", sorted(DISPATCHES))
def test_identical_experts_return_a_token_times_its_weights(form):
    x_GSM, routing = make_problem(SHAPES[1], 1)
    _, y_GSM = dispatch_and_combine(form, x_GSM, routing, SHAPES[1])
    weight_GS1 = routing.weight_GSK.sum(-1, keepdims=True)
    np.testing.assert_allclose(y_GSM, weight_GS1 * x_GSM, rtol=1e-6, atol=1e-6)
    assert not np.any(np.asarray(y_GSM)[np.asarray(weight_GS1)[..., 0] == 0])


@pytest.mark.parametrize("form", sorted(DISPATCHES))
def test_bfloat16_tokens_are_combined_in_float32(form):
    x_GSM, routing = make_problem(SHAPES[1], 2, jnp.bfloat16)
    x_GECM, y_GSM = dispatch_and_combine(form, x_GSM, routing, SHAPES[1])
    # Dispatching rounds nothing, so that only the sums could differ.
    _, expected_GSM = dispatch_and_combine(form, x_GSM.astype(np.float32), routing, SHAPES[1])
    assert x_GECM.dtype == y_GSM.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y_GSM, expected_GSM.astype(jnp.bfloat16))


@pytest.mark.parametrize("form", sorted(DISPATCHES))
def test_a_dropped_choice_gets_no_gradient(form):
    shape = SHAPES[1]
    x_GSM, routing = make_problem(shape, 3)
    _, (dx_GSM, dweight_GSK) = outputs_and_gradients(form, x_GSM, routing, shape)
    is_dropped_GSK = np.asarray(routing.weight_GSK) == 0
    assert not np.any(np.asarray(dweight_GSK)[is_dropped_GSK])
    assert not np.any(np.asarray(dx_GSM)[is_dropped_GSK.all(-1)])


def test_the_slots_form_never_scatters_floats():
    shape = SHAPES[1]
    x_GSM, routing = make_problem(shape, 4)

    def loss(x_GSM, weight_GSK):
        return round_trip("slots", x_GSM, weight_GSK, routing, shape)[1].sum()

    text = str(jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))(x_GSM, routing.weight_GSK))
    scatters = [line for line in text.splitlines() if "= scatter" in line]
    assert scatters and all(":i32[" in line for line in scatters)
