"""The vectorised gate against Algorithm 1 token by token."""
# SPDX-License-Identifier: Apache-2.0

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gshard_mt.routing.gates.top2 import top2
from tests.routing.problems import (
    assert_gradient_matches_differences,
    gate_inputs,
    route,
    routing_problems,
    separated_logits,
    to_combine,
)

SHAPE = (3, 16, 4)  # G, S, E of most tests, which share a program with this capacity
CAPACITY = 5
ALL = np.ones(SHAPE[:2], bool)


class SlowTop2(NamedTuple):
    combine_GSEC: np.ndarray  # the gate of a kept choice at its expert and slot
    aux_loss: float  # in the E^2 scale, groups averaged by their real tokens
    num_over_capacity: tuple[int, int]


def slow_top2(gates_GSE, is_token_GS, capacity, uniform_GS=None, count_rejected=False) -> SlowTop2:
    """Algorithm 1 in sequential NumPy, line by line.

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
    return SlowTop2(combine_GSEC, float(loss), (over[0], over[1]))


def _top_2(gates_E):
    first, second = np.argsort(-gates_E, kind="stable")[:2]
    return (first, gates_E[first]), (second, gates_E[second])


@settings(max_examples=60, deadline=None)
@given(routing_problems(), st.sampled_from(["all", "drawn", "as printed"]), st.integers(0, 1000))
def test_top2_is_algorithm_1_token_by_token(problem, kind, seed):
    logits_GSE, is_token_GS, capacity = problem
    if logits_GSE.shape != SHAPE:  # fewer programs: every kind with one shape only
        kind = "drawn"
    key = None if kind == "all" else jax.random.key(seed)
    count_rejected = kind == "as printed"
    uniform_GS = None if key is None else np.asarray(jax.random.uniform(key, is_token_GS.shape))
    options = (("count_rejected", True),) if count_rejected else ()
    routing = route(top2, logits_GSE, is_token_GS, capacity, key, options)
    gates_GSE = np.asarray(jax.jit(jax.nn.softmax)(logits_GSE))
    slow = slow_top2(gates_GSE, is_token_GS, capacity, uniform_GS, count_rejected)
    combine_GSEC = to_combine(routing, logits_GSE.shape[-1], capacity)
    np.testing.assert_array_equal(combine_GSEC > 0, slow.combine_GSEC > 0)
    np.testing.assert_allclose(combine_GSEC, slow.combine_GSEC, atol=1e-6)
    np.testing.assert_allclose(routing.aux_loss, slow.aux_loss, rtol=1e-5, atol=1e-6)
    is_over_GSK = np.asarray(routing.is_selected_GSK & (routing.weight_GSK == 0))
    assert tuple(is_over_GSK.sum((0, 1))) == slow.num_over_capacity


def test_a_group_of_padding_does_not_dilute_the_loss():
    logits_SE = np.random.default_rng(0).normal(size=SHAPE[1:]).astype(np.float32)
    logits_GSE = np.tile(logits_SE, (3, 1, 1))  # the mean over equal groups is that of one
    three = route(top2, logits_GSE, ALL, CAPACITY)
    one = route(top2, logits_GSE, ALL & [[True], [False], [False]], CAPACITY)
    np.testing.assert_allclose(one.aux_loss, three.aux_loss, rtol=1e-6)


def test_the_loss_is_1_when_routing_is_uniform():
    # Token s prefers expert s mod E by a hair: counts are even, and so are the gates.
    logits_SE = 1e-4 * np.eye(4, dtype=np.float32)[np.arange(16) % 4]
    routing = route(top2, np.tile(logits_SE, (3, 1, 1)), ALL, CAPACITY)
    np.testing.assert_allclose(routing.aux_loss, 1.0, rtol=1e-5)


def test_the_loss_is_e_when_one_expert_gets_everything():
    logits_GSE = np.zeros(SHAPE, np.float32)
    logits_GSE[..., 2] = 100.0
    routing = route(top2, logits_GSE, ALL, CAPACITY)
    np.testing.assert_allclose(routing.aux_loss, 4.0, rtol=1e-5)


def test_equal_gates_go_to_the_lowest_experts():
    routing = route(top2, np.zeros(SHAPE, np.float32), ALL, CAPACITY)
    np.testing.assert_array_equal(routing.expert_GSK[0], [[0, 1]] * 16)
    np.testing.assert_array_equal(routing.slot_GSK[0][:3], [[0, 0], [1, 1], [2, 2]])


def test_second_choices_come_after_all_first_choices_of_their_expert():
    # Token 0 wants 0 then 1; tokens 1 and 2 want 1 then 0. With two slots, 1 is full before pass 2.
    logits_GSE = np.array([[[2, 1], [1, 2], [1, 2]]], np.float32)
    routing = route(top2, logits_GSE, np.ones((1, 3), bool), 2)
    np.testing.assert_array_equal(routing.weight_GSK[0] > 0, [[1, 0], [1, 1], [1, 0]])
    np.testing.assert_array_equal(routing.is_selected_GSK, np.ones((1, 3, 2)))


def test_one_expert_has_no_second_choice():
    routing = route(top2, np.ones((1, 4, 1), np.float32), np.ones((1, 4), bool), 3)
    np.testing.assert_array_equal(routing.weight_GSK[0], [[1, 0], [1, 0], [1, 0], [0, 0]])
    np.testing.assert_allclose(routing.aux_loss, 1.0, rtol=1e-5)  # as routing is uniform


def test_the_second_expert_is_drawn_with_probability_2_g2():
    gate_2 = 0.3
    logits_GSE = np.tile(np.log(np.array([1 - gate_2, gate_2], np.float32)), (4, 5000, 1))
    is_token_GS = np.ones((4, 5000), bool)
    routing = route(top2, logits_GSE, is_token_GS, 5000, jax.random.key(0))
    is_selected_GSK = np.asarray(routing.is_selected_GSK)
    assert np.all(is_selected_GSK[..., 0])
    # 20,000 draws of probability 0.6: five standard deviations are 0.017.
    assert abs(is_selected_GSK[..., 1].mean() - 2 * gate_2) < 0.017


def test_every_second_choice_is_selected_by_policy_all():
    logits_GSE = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
    options = (("second_policy", "all"),)
    routing = route(top2, logits_GSE, ALL, CAPACITY, jax.random.key(0), options)
    jax.tree.map(np.testing.assert_array_equal, routing, route(top2, logits_GSE, ALL, CAPACITY))
    assert np.all(routing.is_selected_GSK)


def test_gradients_of_weights_and_loss_match_finite_differences():
    rng = np.random.default_rng(1)
    is_token_GS = np.arange(10)[None] < 9
    cotangent_GSK = rng.normal(size=(1, 10, 2)).astype(np.float32)

    def scalar(logits_GSE):
        routing = top2(gate_inputs(logits_GSE, is_token_GS, 3, jax.random.key(3)))
        return jnp.sum(routing.weight_GSK * cotangent_GSK) + routing.aux_loss

    assert_gradient_matches_differences(scalar, separated_logits(0, (1, 10, 6)))
