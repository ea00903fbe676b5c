"""Hash layers against loops over tokens, and the hash itself."""
# SPDX-License-Identifier: Apache-2.0

import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gshard_mt.routing.gates.hashed import hashed, mix
from tests.routing.problems import assert_same_routing, fill_slots, route, routing_problems


def slow_mix(number: int) -> int:
    """MurmurHash3's fmix32 in whole numbers of any length."""
    number = ((number ^ (number >> 16)) * 0x85EBCA6B) % 2**32
    number = ((number ^ (number >> 13)) * 0xC2B2AE35) % 2**32
    return number ^ (number >> 16)


@settings(max_examples=30, deadline=None)
@given(routing_problems(), st.sampled_from([3, 64_000, 2**31 - 1]), st.integers(0, 1000))
def test_hashed_is_the_slow_one_token_by_token(problem, max_id, seed):
    logits_GSE, is_token_GS, capacity = problem
    rng = np.random.default_rng(seed)
    token_id_GS = rng.integers(0, max_id, is_token_GS.shape).astype(np.int32)
    expert_GSK = np.zeros((*is_token_GS.shape, 1), int)
    for g, s in np.ndindex(is_token_GS.shape):
        expert_GSK[g, s, 0] = slow_mix(int(token_id_GS[g, s])) % logits_GSE.shape[-1]
    slow = fill_slots(expert_GSK, np.ones(expert_GSK.shape), is_token_GS, capacity, 0.0)
    assert_same_routing(route(hashed, *problem, token_id_GS=token_id_GS), slow)


def test_the_hash_is_the_published_one():
    # Values of MurmurHash3's fmix32.
    np.testing.assert_array_equal(mix(jnp.arange(3)), [0, 0x514E28B7, 0x30F4C306])


def test_ids_in_a_row_are_spread_evenly():
    count_E = np.bincount(np.asarray(mix(jnp.arange(64_000)) % 64), minlength=64)
    # 64,000 ids of probability 1/64: five standard deviations are 157.
    np.testing.assert_allclose(count_E, 1000, atol=157)
