"""The promises that every gate of the table keeps."""
# SPDX-License-Identifier: Apache-2.0

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gshard_mt.partitioning.axes import letters_of
from gshard_mt.routing.gating import GATES
from gshard_mt.routing.strategies import STRATEGIES
from tests.routing.problems import call_gate, route, routing_problems, to_combine

NAMES = sorted(STRATEGIES)
NUM_EXPERT_GROUPS = 2
OPTIONS = {
    "second_policy": "random",
    "count_rejected": False,
    "num_choices": 2,
    "capacity_factor": 1.5,
}
SHAPES = [(2, 20, 4, 4)]  # one, so that most tests share their programs


def options(name):
    return tuple((key, OPTIONS[key]) for key in STRATEGIES[name].options)


def further_products(name):
    """Returns keyword -> letters of the weight of all products but the logits."""
    products = STRATEGIES[name].products.items()
    return {keyword: letters_of(weight) for keyword, weight in products if keyword != "logits_GSE"}


def arrays(name, logits_GSE, seed=0):
    """Returns a gate's further products and token ids, random numbers of the right shapes."""
    rng = np.random.default_rng(seed)
    *shape_GS, num_experts = logits_GSE.shape
    sizes = {"E": num_experts, "A": NUM_EXPERT_GROUPS}
    found: dict[str, np.ndarray] = {
        keyword: rng.normal(size=(*shape_GS, sizes[letters[1]])).astype(np.float32)
        for keyword, letters in further_products(name).items()
    }
    if name == "hash":
        found["token_id_GS"] = rng.integers(0, 1000, shape_GS).astype(np.int32)
    return found


def route_by(name, logits_GSE, is_token_GS, capacity, key, extra):
    """The routing as NumPy arrays."""
    gate = GATES[name]
    routing = route(gate, logits_GSE, is_token_GS, capacity, key, options(name), **extra)
    return jax.device_get(routing)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=20, deadline=None)
@given(problem=routing_problems(SHAPES), seed=st.integers(0, 1000))
def test_every_gate_keeps_the_promises_of_a_routing(name, problem, seed):
    logits_GSE, is_token_GS, capacity = problem
    num_experts = logits_GSE.shape[-1]
    extra = arrays(name, logits_GSE, seed)
    routing = route_by(name, logits_GSE, is_token_GS, capacity, jax.random.key(seed), extra)
    assert routing.expert_GSK.dtype == routing.slot_GSK.dtype == jnp.int32
    assert routing.weight_GSK.dtype == routing.aux_loss.dtype == jnp.float32
    assert routing.is_selected_GSK.dtype == bool
    assert routing.aux_loss.shape == ()
    assert np.all((0 <= routing.expert_GSK) & (routing.expert_GSK < num_experts))
    is_dispatched_GSK = routing.weight_GSK > 0
    assert np.all((routing.weight_GSK >= 0) & (routing.weight_GSK <= 1))
    assert np.all(routing.slot_GSK[is_dispatched_GSK] < capacity)
    assert np.all(routing.slot_GSK[is_dispatched_GSK] >= 0)
    assert not np.any(is_dispatched_GSK & ~routing.is_selected_GSK)
    assert not np.any(routing.is_selected_GSK[~is_token_GS])
    is_taken_GSEC = to_combine(routing, num_experts, capacity) > 0  # fails if a slot is used twice
    assert np.all(is_taken_GSEC.sum((1, 3)) <= capacity)
    assert np.all(is_taken_GSEC.sum(3) <= 1)
    most = STRATEGIES[name].max_experts(OPTIONS["num_choices"], num_experts, NUM_EXPERT_GROUPS)
    assert routing.expert_GSK.shape[-1] == most
    assert np.isfinite(routing.aux_loss) and routing.aux_loss >= 0


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    logits_GSE = rng.normal(size=(2, 20, 4)).astype(np.float32)
    return logits_GSE, np.arange(20) < np.array([[13], [20]])


@pytest.mark.parametrize("name", NAMES)
def test_values_at_padding_change_nothing(name, problem):
    logits_GSE, is_token_GS = problem
    key = jax.random.key(0)
    extra = arrays(name, logits_GSE)
    routing = route_by(name, logits_GSE, is_token_GS, 4, key, extra)
    extra = {keyword: array.copy() for keyword, array in extra.items()}
    for array in (logits_GSE, *extra.values()):
        array[~is_token_GS] = 999
    other = route_by(name, logits_GSE, is_token_GS, 4, key, extra)
    for field, a, b in zip(routing._fields, routing, other, strict=True):
        is_it = {"expert_GSK": routing.is_selected_GSK, "slot_GSK": routing.weight_GSK > 0}.get(
            field
        )
        a, b = (a, b) if is_it is None else (a[is_it], b[is_it])
        np.testing.assert_array_equal(a, b, err_msg=field)
    assert np.any(routing.weight_GSK) and not np.any(routing.weight_GSK[~is_token_GS])


@pytest.mark.parametrize("name", NAMES)
def test_groups_do_not_affect_each_others_choices(name, problem):
    logits_GSE, is_token_GS = problem
    key = jax.random.key(0)
    extra = arrays(name, logits_GSE)
    routing = route_by(name, logits_GSE, is_token_GS, 4, key, extra)
    extra = {keyword: array.copy() for keyword, array in extra.items()}
    for array in (logits_GSE, *extra.values()):
        array[1] = array[1][::-1] * 3
    other = route_by(name, logits_GSE, is_token_GS, 4, key, extra)
    for a, b in zip(routing[:4], other[:4], strict=True):
        np.testing.assert_array_equal(a[0], b[0])


@pytest.mark.parametrize("name", NAMES)
def test_no_key_means_no_randomness(name, problem):
    logits_GSE, is_token_GS = problem
    program = jax.make_jaxpr(
        lambda logits_GSE, extra: call_gate(
            GATES[name], logits_GSE, is_token_GS, 4, None, options(name), **extra
        )
    )(logits_GSE, arrays(name, logits_GSE))
    assert "random" not in str(program) and "threefry" not in str(program)


@pytest.mark.parametrize("name", ["top2", "noisy_top_k", "hierarchical"])
def test_another_key_is_another_routing(name, problem):
    logits_GSE, is_token_GS = problem
    extra = arrays(name, logits_GSE)
    one, two = (
        route_by(name, logits_GSE, is_token_GS, 4, jax.random.key(n), extra) for n in range(2)
    )
    assert np.any(one.weight_GSK != two.weight_GSK)


@pytest.mark.parametrize("name", NAMES)
def test_gate_arithmetic_is_float32_whatever_comes_in(name, problem):
    logits_GSE, is_token_GS = problem
    narrow = jax.tree.map(
        lambda x: x if x.dtype == np.int32 else x.astype(jnp.bfloat16),
        {"logits_GSE": logits_GSE, **arrays(name, logits_GSE)},
    )
    wide = jax.tree.map(lambda x: x if x.dtype == np.int32 else x.astype(np.float32), narrow)
    routing, other = (
        route_by(name, inputs.pop("logits_GSE"), is_token_GS, 4, jax.random.key(0), inputs)
        for inputs in (narrow, wide)
    )
    jax.tree.map(np.testing.assert_array_equal, routing, other)


def circular_logits(num_experts, num_tokens):
    """Token s likes expert s mod E best and the ones after it less and less: an even load."""
    distance_SE = np.arange(num_experts)[None] - np.arange(num_tokens)[:, None]
    return (-(distance_SE % num_experts)[None] / 8).astype(np.float32)


@pytest.mark.parametrize("name", ["top2", "top1", "top_k"])
def test_a_balance_loss_is_1_when_routing_is_uniform(name):
    logits_GSE = np.tile(circular_logits(4, 20), (2, 1, 1))
    routing = route_by(name, logits_GSE, np.ones((2, 20), bool), 4, jax.random.key(0), {})
    np.testing.assert_allclose(routing.aux_loss, 1.0, rtol=1e-5)


@pytest.mark.parametrize("name", ["noisy_top_k", "hierarchical"])
def test_a_loss_of_variation_is_0_when_the_load_is_even(name):
    # Tokens go around the two groups of experts, and around the eight experts of each.
    logits_GSE = np.tile(circular_logits(8, 64).repeat(2, axis=1), 2)
    extra = {"noise_GSE": np.zeros((1, 128, 16), np.float32)}
    if name == "hierarchical":
        extra["primary_GSA"] = circular_logits(2, 128)
        extra["primary_noise_GSA"] = np.zeros((1, 128, 2), np.float32)
    else:
        logits_GSE = circular_logits(16, 128)
    routing = route_by(name, logits_GSE, np.ones((1, 128), bool), 128, None, extra)
    np.testing.assert_allclose(routing.aux_loss, 0.0, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_strategy_names_all_that_its_gate_takes(name):
    strategy = STRATEGIES[name]
    signature = inspect.signature(GATES[name])
    keywords = {p.name for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY}
    assert keywords == {*strategy.options, *further_products(name)}
    assert [p for p in signature.parameters if p not in keywords] == ["inputs"]
    for keyword, weight in strategy.products.items():
        letters = letters_of(weight)
        assert keyword.endswith("_GS" + letters[1]) and letters[0] == "M"


@pytest.mark.parametrize("name", NAMES)
def test_a_causal_gate_without_drops_gives_a_token_the_same_whatever_comes_later(name, problem):
    logits_GSE, _ = problem
    is_token_GS = np.ones((2, 20), bool)
    extra = arrays(name, logits_GSE)
    routing = route_by(name, logits_GSE, is_token_GS, 20, None, extra)
    # Not in place: JAX on a CPU may still read the arrays it was given.
    changed_GSE, *changed = (
        np.concatenate([array[:, :10], array[:, 10:][:, ::-1] * 3], axis=1)
        for array in (logits_GSE, *extra.values())
    )
    extra = dict(zip(extra, changed, strict=True))
    other = route_by(name, changed_GSE, is_token_GS, 20, None, extra)
    is_same = np.array_equal(routing.weight_GSK[:, :10], other.weight_GSK[:, :10])
    assert is_same == STRATEGIES[name].is_causal
