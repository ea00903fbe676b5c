"""Choices sorted by expert: every dispatched choice has its own row, in its expert's part."""
# SPDX-License-Identifier: Apache-2.0

import jax
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gshard_mt.routing.dropless import round_tables, sort_choices

TOKENS, CHOICES, EXPERTS = 30, 2, 4


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1))
def test_rows_are_the_dispatched_choices_of_each_expert_in_the_order_of_tokens(seed, share):
    rng = np.random.default_rng(seed)
    # Experts of other devices are below 0 and from E on.
    expert_SK = rng.integers(-3, EXPERTS + 3, (TOKENS, CHOICES)).astype(np.int32)
    is_dispatched_SK = rng.random((TOKENS, CHOICES)) < share
    found = jax.jit(sort_choices, static_argnums=2)(expert_SK, is_dispatched_SK, EXPERTS)
    num_rows = TOKENS * CHOICES
    rows = [
        s * CHOICES + k
        for expert in range(EXPERTS)
        for s, k in np.ndindex(TOKENS, CHOICES)
        if is_dispatched_SK[s, k] and expert_SK[s, k] == expert
    ]
    np.testing.assert_array_equal(found.choice_R, rows + [num_rows] * (num_rows - len(rows)))
    row_SK = np.full((TOKENS, CHOICES), num_rows)
    for row, choice in enumerate(rows):
        row_SK[divmod(choice, CHOICES)] = row
    np.testing.assert_array_equal(found.row_SK, row_SK)
    sizes = [np.sum(is_dispatched_SK & (expert_SK == expert)) for expert in range(EXPERTS)]
    np.testing.assert_array_equal(found.size_E, sizes)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1))
def test_rounds_send_each_choice_once_to_the_device_of_its_expert(seed, share):
    rng = np.random.default_rng(seed)
    devices, room = 2, 7
    expert_SK = rng.integers(0, EXPERTS, (TOKENS, CHOICES)).astype(np.int32)
    is_dispatched_SK = rng.random((TOKENS, CHOICES)) < share
    choices = jax.jit(sort_choices, static_argnums=2)(expert_SK, is_dispatched_SK, EXPERTS)
    size_I = choices.size_E.reshape(devices, -1).sum(axis=1)
    sent = [[] for _ in range(devices)]
    for number in range(-(-TOKENS * CHOICES // room)):
        row_SK, choice_R = jax.jit(round_tables, static_argnums=2)(choices, size_I, room, number)
        for row, choice in enumerate(np.asarray(choice_R)):
            if choice < TOKENS * CHOICES:
                assert row_SK.reshape(-1)[choice] == row  # each other's inverse
                sent[row // room].append(int(choice))
        assert np.sum(np.asarray(row_SK) < devices * room) == np.sum(choice_R < TOKENS * CHOICES)
    expert_F, is_dispatched_F = expert_SK.reshape(-1), is_dispatched_SK.reshape(-1)
    for device, found in enumerate(sent):
        is_here_F = (expert_F // (EXPERTS // devices) == device) & is_dispatched_F
        assert sorted(found) == np.flatnonzero(is_here_F).tolist()
