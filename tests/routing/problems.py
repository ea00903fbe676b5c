"""Random problems for gates, and the plain NumPy pieces that their slow references share."""
# SPDX-License-Identifier: Apache-2.0

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree

from gshard_mt.routing.routing import GateInputs

# G, S, E, C: few, so that programs are compiled once
SHAPES = [(1, 1, 2, 1), (3, 16, 4, 5), (2, 9, 64, 2)]


class SlowRouting(NamedTuple):
    """The result of a slow reference: the fields of a Routing as NumPy arrays."""

    expert_GSK: np.ndarray
    slot_GSK: np.ndarray
    weight_GSK: np.ndarray
    is_selected_GSK: np.ndarray
    aux_loss: float


def gate_inputs(logits_GSE, is_token_GS, capacity, key=None, token_id_GS=None) -> GateInputs:
    """Inputs of a gate; subword ids matter to `hashed` only."""
    if token_id_GS is None:
        token_id_GS = jnp.asarray(np.zeros(is_token_GS.shape, np.int32))
    return GateInputs(logits_GSE, is_token_GS, token_id_GS, capacity, key)


def call_gate(gate, logits_GSE, is_token_GS, capacity, key=None, options=(), **arrays):
    """Calls a gate; `options` are items of a dict, `arrays` further products or the subword ids."""
    token_id_GS = arrays.pop("token_id_GS", None)
    inputs = gate_inputs(logits_GSE, is_token_GS, capacity, key, token_id_GS)
    return gate(inputs, **dict(options), **arrays)


# Unlike all other programs of tests (conftest.py), gates are optimised: without that, XLA's older
# emitters give wrong numbers for the hierarchical gate of 3 experts.
route = jax.jit(
    call_gate,
    static_argnames=("gate", "capacity", "options"),
    compiler_options={"xla_backend_optimization_level": 1},
)


@st.composite
def routing_problems(draw, shapes=SHAPES):
    """Logits on a coarse grid have many exact ties; a bias to one expert makes it overflow."""
    *shape, capacity = draw(st.sampled_from(shapes))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if draw(st.booleans()):
        logits_GSE = rng.integers(-2, 3, shape) / 2
    else:
        logits_GSE = rng.normal(size=shape)
    logits_GSE[..., 0] += draw(st.sampled_from([0, 0, 2, 200]))
    is_token_GS = rng.random(shape[:2]) < draw(st.sampled_from([0.0, 0.5, 1.0, 1.0]))
    return logits_GSE.astype(np.float32), is_token_GS, capacity


def softmax(x):
    """In float64, over the last axis."""
    x = np.exp(np.asarray(x, np.float64) - np.max(x, axis=-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def largest(scores, num):
    """Returns the indices of the largest; ties go to the first."""
    return np.argsort(-np.asarray(scores), kind="stable")[:num]


def has_near_ties(x, axis=-1):
    """Returns whether rounding may reorder x: values almost equal, but not equal."""
    x = np.sort(np.asarray(x, np.float64), axis=axis)
    gap = np.diff(x, axis=axis)
    scale = np.abs(np.delete(x, 0, axis=axis))
    return bool(np.any((gap > 0) & (gap < 1e-6 * scale)))


def fill_slots(expert_GSK, weight_GSK, is_token_GS, capacity, aux_loss) -> SlowRouting:
    """Assigns slots one by one: all first choices in token order, then all second ones, ..."""
    num_groups, group_size, num_choices = expert_GSK.shape
    slot_GSK = np.zeros(expert_GSK.shape, int)
    kept_GSK = np.zeros(expert_GSK.shape)
    is_selected_GSK = np.zeros(expert_GSK.shape, bool)
    for g in range(num_groups):
        used: dict[int, int] = {}
        for k in range(num_choices):
            for s in range(group_size):
                weight = weight_GSK[g, s, k]
                # A weight that underflows to 0 in float32 selects nothing.
                if not is_token_GS[g, s] or weight < 1e-37:
                    continue
                is_selected_GSK[g, s, k] = True
                slot_GSK[g, s, k] = used.get(expert_GSK[g, s, k], 0)
                used[expert_GSK[g, s, k]] = slot_GSK[g, s, k] + 1
                if slot_GSK[g, s, k] < capacity:
                    kept_GSK[g, s, k] = weight
    return SlowRouting(expert_GSK, slot_GSK, kept_GSK, is_selected_GSK, aux_loss)


def assert_same_routing(routing, slow: SlowRouting) -> None:
    """Choices exactly, weights to 1e-6; experts matter where selected, slots where dispatched."""
    expert_GSK, slot_GSK, weight_GSK, is_selected_GSK = (np.asarray(x) for x in routing[:4])
    is_dispatched_GSK = slow.weight_GSK > 0
    np.testing.assert_array_equal(is_selected_GSK, slow.is_selected_GSK)
    np.testing.assert_array_equal(weight_GSK > 0, is_dispatched_GSK)
    np.testing.assert_array_equal(expert_GSK[is_selected_GSK], slow.expert_GSK[is_selected_GSK])
    np.testing.assert_array_equal(slot_GSK[is_dispatched_GSK], slow.slot_GSK[is_dispatched_GSK])
    np.testing.assert_allclose(weight_GSK, slow.weight_GSK, atol=1e-6)
    np.testing.assert_allclose(routing.aux_loss, slow.aux_loss, rtol=1e-5, atol=1e-5)


def to_combine(routing, num_experts, capacity):
    """Returns the paper's `[G, S, E, C]`, and fails if two dispatched choices share a slot."""
    expert_GSK, slot_GSK, weight_GSK = (np.asarray(field) for field in routing[:3])
    combine_GSEC = np.zeros((*weight_GSK.shape[:2], num_experts, capacity), np.float32)
    for g, s, k in zip(*np.nonzero(weight_GSK), strict=True):
        expert, slot = expert_GSK[g, s, k], slot_GSK[g, s, k]
        assert min(expert, slot) >= 0
        assert not np.any(combine_GSEC[g, :, expert, slot])
        combine_GSEC[g, s, expert, slot] = weight_GSK[g, s, k]
    return combine_GSEC


def squared_variation(x):
    return np.var(x) / (np.mean(x) ** 2 + 1e-10)


def separated_logits(seed, shape):
    """Returns logits that differ by at least 0.1 within a token: no step changes a choice."""
    rng = np.random.default_rng(seed)
    *leading, num = shape
    ranks = np.argsort(rng.random(shape), axis=-1)
    logits = (ranks - num / 2) / 4 + rng.uniform(-0.07, 0.07, (*leading, num))
    return logits.astype(np.float32)


def assert_gradient_matches_differences(scalar, x, atol=5e-4) -> None:
    """Compares the gradient of a scalar function with central differences of fourth order.

    `x` is an array or a tree of them; no choice may change within 0.04 of an entry.
    """
    step = 0.02
    leaves, unravel = ravel_pytree(x)
    x = np.asarray(leaves)

    def flat(x):
        return scalar(unravel(x))

    gradient = jax.jit(jax.grad(flat))(x)
    moves = step * np.eye(x.size, dtype=np.float32)
    at = jax.jit(jax.vmap(flat))
    down_2, down, up, up_2 = (np.asarray(at(x + times * moves)) for times in (-2, -1, 1, 2))
    slope = (down_2 - 8 * down + 8 * up - up_2) / (12 * step)
    assert np.any(gradient)
    np.testing.assert_allclose(gradient, slope, atol=atol)
