"""The vectorised gate against Algorithm 1 token by token, and the promises a Routing makes."""
# SPDX-License-Identifier: Apache-2.0

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gshard_mt.routing.gating import GATINGS, draw_uniform, top2

# G, S, E, C
SHAPES = [(1, 1, 2, 1), (3, 16, 4, 5), (1, 24, 3, 24), (2, 9, 64, 2)]


class SlowRouting(NamedTuple):
    combine_GSEC: np.ndarray  # the gate of a kept choice at its expert and slot
    aux_loss: float  # in the E^2 scale, groups averaged by their real tokens
    num_over_capacity: tuple[int, int]


def slow_top2(
    gates_GSE, is_token_GS, capacity, uniform_GS=None, count_rejected=False
) -> SlowRouting:
    """Algorithm 1 in sequential NumPy, a line of code for a line of the paper.

    Without draws every second choice passes whose gate is not 0.
    """
    num_groups, group_size, num_experts = gates_GSE.shape
    combine_GSEC = np.zeros((num_groups, group_size, num_experts, capacity), np.float32)
    over = [0, 0]
    weighted_loss = 0.0
    for g in range(num_groups):
        tokens = [s for s in range(group_size) if is_token_GS[g, s]]
        c_E = np.zeros(num_experts, int)  # 1
        for s in tokens:  # 4
            (e1, g1), (_, g2) = _top_2(gates_GSE[g, s])  # 5
            if c_E[e1] < capacity:  # 8
                combine_GSEC[g, s, e1, c_E[e1]] = g1 / (g1 + g2)  # 6, 9
            else:
                over[0] += 1
            c_E[e1] += 1  # 11
        m_E = gates_GSE[g][tokens].astype(np.float64).sum(0) / max(len(tokens), 1)  # 3
        loss = (c_E / max(len(tokens), 1) * m_E).mean()  # 13
        weighted_loss += len(tokens) * num_experts**2 * loss
        for s in tokens:  # 14
            (_, g1), (e2, g2) = _top_2(gates_GSE[g, s])  # 15
            g2 = g2 / (g1 + g2)  # 16
            is_drawn = 2 * g2 > (0.0 if uniform_GS is None else uniform_GS[g, s])  # 17, 19
            if is_drawn and c_E[e2] < capacity:  # 19
                combine_GSEC[g, s, e2, c_E[e2]] = g2  # 20
            elif is_drawn:
                over[1] += 1
            if is_drawn or count_rejected:
                c_E[e2] += 1  # 22
    loss = weighted_loss / max(int(is_token_GS.sum()), 1)
    return SlowRouting(combine_GSEC, float(loss), (over[0], over[1]))


def _top_2(gates_E):
    first, second = np.argsort(-gates_E, kind="stable")[:2]
    return (first, gates_E[first]), (second, gates_E[second])


@functools.partial(jax.jit, static_argnames=("gate", "capacity"))
def route(gate, logits_GSE, is_token_GS, capacity, key=None):
    return gate(logits_GSE, is_token_GS, capacity, key)


TOP2_AS_PRINTED = functools.partial(top2, count_rejected=True)


@st.composite
def routing_problems(draw):
    """Logits on a coarse grid have many exact ties; a bias to one expert makes it overflow."""
    *shape, capacity = draw(st.sampled_from(SHAPES))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if draw(st.booleans()):
        logits_GSE = rng.integers(-2, 3, shape) / 2
    else:
        logits_GSE = rng.normal(size=shape)
    logits_GSE[..., 0] += draw(st.sampled_from([0, 0, 2, 200]))
    is_token_GS = rng.random(shape[:2]) < draw(st.sampled_from([0.0, 0.5, 1.0, 1.0]))
    return logits_GSE.astype(np.float32), is_token_GS, capacity


def to_combine(routing, num_experts, capacity):
    """Returns the paper's `[G, S, E, C]`, and fails if two kept choices share a place."""
    expert_GSK, slot_GSK, weight_GSK = (np.asarray(field) for field in routing[:3])
    combine_GSEC = np.zeros((*weight_GSK.shape[:2], num_experts, capacity), np.float32)
    for g, s, k in zip(*np.nonzero(weight_GSK), strict=True):
        place = (g, s, expert_GSK[g, s, k], slot_GSK[g, s, k])
        assert combine_GSEC[place] == 0
        combine_GSEC[place] = weight_GSK[g, s, k]
    return combine_GSEC


@settings(max_examples=150, deadline=None)
@given(routing_problems(), st.booleans(), st.booleans(), st.integers(0, 1000))
def test_top2_is_algorithm_1_token_by_token(problem, has_key, count_rejected, seed):
    logits_GSE, is_token_GS, capacity = problem
    key = jax.random.key(seed) if has_key else None
    uniform_GS = None if key is None else np.asarray(draw_uniform(key, is_token_GS.shape))
    gate = TOP2_AS_PRINTED if count_rejected else top2
    routing = route(gate, logits_GSE, is_token_GS, capacity, key)
    gates_GSE = np.asarray(jax.jit(jax.nn.softmax)(logits_GSE))
    slow = slow_top2(gates_GSE, is_token_GS, capacity, uniform_GS, count_rejected)
    combine_GSEC = to_combine(routing, logits_GSE.shape[-1], capacity)
    np.testing.assert_array_equal(combine_GSEC > 0, slow.combine_GSEC > 0)
    np.testing.assert_allclose(combine_GSEC, slow.combine_GSEC, atol=1e-6)
    np.testing.assert_allclose(routing.aux_loss, slow.aux_loss, rtol=1e-5, atol=1e-6)
    counters = routing.counters
    assert counters.num_tokens == is_token_GS.sum()
    assert (counters.num_over_capacity_1, counters.num_over_capacity_2) == slow.num_over_capacity
    num_to_GS = (slow.combine_GSEC > 0).sum((2, 3))[is_token_GS]
    expected = [(num_to_GS == n).sum() for n in range(3)]
    assert [counters.num_to_0, counters.num_to_1, counters.num_to_2] == expected


@settings(max_examples=60, deadline=None)
@given(routing_problems(), st.sampled_from(sorted(GATINGS)), st.integers(0, 1000))
def test_every_gate_keeps_the_promises_of_a_routing(problem, name, seed):
    logits_GSE, is_token_GS, capacity = problem
    num_experts = logits_GSE.shape[-1]
    routing = route(GATINGS[name], logits_GSE, is_token_GS, capacity, jax.random.key(seed))
    assert routing.expert_GSK.dtype == routing.slot_GSK.dtype == jnp.int32
    assert routing.weight_GSK.dtype == routing.aux_loss.dtype == jnp.float32
    assert np.all((0 <= routing.expert_GSK) & (routing.expert_GSK < num_experts))
    assert np.all(routing.weight_GSK >= 0)
    is_taken_GSEC = to_combine(routing, num_experts, capacity) > 0  # fails if a slot is used twice
    assert not np.any(is_taken_GSEC[~is_token_GS])
    assert np.all(is_taken_GSEC.sum((2, 3)) <= 2)
    assert np.all(is_taken_GSEC.sum((1, 3)) <= capacity)
    is_both_GS = np.all(np.asarray(routing.weight_GSK) > 0, axis=-1)
    weight_GS = np.asarray(routing.weight_GSK).sum(-1)
    np.testing.assert_allclose(weight_GS[is_both_GS], 1.0, atol=1e-6)


def test_padding_changes_nothing_for_real_tokens():
    rng = np.random.default_rng(0)
    logits_GSE = rng.normal(size=(2, 20, 4)).astype(np.float32)
    is_token_GS = np.arange(20) < np.array([[13], [20]])
    routing = route(top2, logits_GSE, is_token_GS, 4)
    logits_GSE[~is_token_GS] = 1e4
    other = route(top2, logits_GSE, is_token_GS, 4)
    jax.tree.map(np.testing.assert_array_equal, routing.weight_GSK, other.weight_GSK)
    np.testing.assert_array_equal(routing.aux_loss, other.aux_loss)
    assert not np.any(np.asarray(routing.weight_GSK)[~is_token_GS])


def test_a_group_of_padding_does_not_dilute_the_loss():
    logits_GSE = np.random.default_rng(0).normal(size=(1, 12, 4)).astype(np.float32)
    one = route(top2, logits_GSE, np.ones((1, 12), bool), 4)
    is_token_GS = np.array([[True] * 12, [False] * 12])
    two = route(top2, np.concatenate([logits_GSE, logits_GSE]), is_token_GS, 4)
    np.testing.assert_allclose(one.aux_loss, two.aux_loss, rtol=1e-6)


@pytest.mark.parametrize("num_experts", [1, 4, 64])
def test_the_loss_is_1_when_routing_is_uniform(num_experts):
    # Token s prefers expert s mod E by a hair: counts are even, and so are the gates.
    logits_SE = 1e-4 * np.eye(num_experts, dtype=np.float32)[np.arange(128) % num_experts]
    routing = top2(jnp.asarray(logits_SE)[None], jnp.ones((1, 128), bool), 128, None)
    np.testing.assert_allclose(routing.aux_loss, 1.0, rtol=1e-5)


def test_the_loss_is_e_when_one_expert_gets_everything():
    logits_GSE = jnp.zeros((1, 8, 4)).at[..., 2].set(100.0)
    routing = top2(logits_GSE, jnp.ones((1, 8), bool), 8, None)
    np.testing.assert_allclose(routing.aux_loss, 4.0, rtol=1e-5)


def test_equal_gates_go_to_the_lowest_experts():
    routing = top2(jnp.zeros((1, 3, 5)), jnp.ones((1, 3), bool), 3, None)
    np.testing.assert_array_equal(routing.expert_GSK[0], [[0, 1]] * 3)
    np.testing.assert_array_equal(routing.slot_GSK[0], [[0, 0], [1, 1], [2, 2]])


def test_second_choices_come_after_all_first_choices_of_their_expert():
    # Token 0 wants 0 then 1; tokens 1 and 2 want 1 then 0. With two slots, 1 is full before pass 2.
    logits_GSE = jnp.array([[[2.0, 1.0], [1.0, 2.0], [1.0, 2.0]]])
    routing = top2(logits_GSE, jnp.ones((1, 3), bool), 2, None)
    np.testing.assert_array_equal(routing.weight_GSK[0] > 0, [[1, 0], [1, 1], [1, 0]])
    assert routing.counters.num_over_capacity_2 == 2


def test_one_expert_has_no_second_choice():
    routing = top2(jnp.ones((1, 4, 1)), jnp.ones((1, 4), bool), 3, None)
    np.testing.assert_array_equal(routing.weight_GSK[0], [[1, 0], [1, 0], [1, 0], [0, 0]])


def test_the_second_expert_is_drawn_with_probability_2_g2():
    gate_2 = 0.3
    logits_GSE = jnp.broadcast_to(jnp.log(jnp.array([1 - gate_2, gate_2])), (4, 5000, 2))
    routing = top2(logits_GSE, jnp.ones((4, 5000), bool), 5000, jax.random.key(0))
    # 20,000 draws of probability 0.6: five standard deviations are 0.017.
    assert abs(float(routing.counters.num_to_2) / 20_000 - 2 * gate_2) < 0.017
    without_draws = GATINGS["top2_all"](
        logits_GSE, jnp.ones((4, 5000), bool), 5000, jax.random.key(0)
    )
    assert without_draws.counters.num_to_2 == without_draws.counters.num_tokens


def test_gradients_of_weights_and_loss_match_finite_differences():
    rng = np.random.default_rng(1)
    logits_GSE = jnp.asarray(rng.permutation(60).reshape(1, 10, 6) / 10, jnp.float32)
    is_token_GS = jnp.arange(10)[None] < 9
    cotangent_GSK = jnp.asarray(rng.normal(size=(1, 10, 2)), jnp.float32)

    @jax.jit
    def scalar(logits_GSE):
        routing = top2(logits_GSE, is_token_GS, 3, jax.random.key(3))
        return jnp.sum(routing.weight_GSK * cotangent_GSK) + routing.aux_loss

    gradient_GSE = jax.grad(scalar)(logits_GSE)
    step = 1e-2  # less than half the smallest gap between two logits of a token
    for s, e in np.ndindex(10, 6):
        up, down = (scalar(logits_GSE.at[0, s, e].add(sign * step)) for sign in (1, -1))
        np.testing.assert_allclose(gradient_GSE[0, s, e], (up - down) / (2 * step), atol=2e-4)


def test_gate_arithmetic_is_float32_whatever_comes_in():
    logits_GSE = jax.random.normal(jax.random.key(0), (2, 16, 4), jnp.bfloat16)
    is_token_GS = jnp.ones((2, 16), bool)
    routing = top2(logits_GSE, is_token_GS, 8, None)
    expected = top2(logits_GSE.astype(jnp.float32), is_token_GS, 8, None)
    np.testing.assert_array_equal(routing.weight_GSK, expected.weight_GSK)
