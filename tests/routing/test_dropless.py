"""Choices sorted by expert: every one that is sent has a row of its own, in its expert's part."""
# SPDX-License-Identifier: Apache-2.0

import jax
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gshard_mt.routing.dropless import sort_choices

TOKENS, CHOICES, EXPERTS = 30, 2, 4


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1))
def test_rows_are_the_sent_choices_of_each_expert_in_the_order_of_tokens(seed, share):
    rng = np.random.default_rng(seed)
    # Experts of other devices are below 0 and from E on.
    expert_NK = rng.integers(-3, EXPERTS + 3, (TOKENS, CHOICES)).astype(np.int32)
    is_sent_NK = rng.random((TOKENS, CHOICES)) < share
    found = jax.jit(sort_choices, static_argnums=2)(expert_NK, is_sent_NK, EXPERTS)
    num_rows = TOKENS * CHOICES
    rows = [
        n * CHOICES + k
        for expert in range(EXPERTS)
        for n, k in np.ndindex(TOKENS, CHOICES)
        if is_sent_NK[n, k] and expert_NK[n, k] == expert
    ]
    np.testing.assert_array_equal(found.choice_F, rows + [num_rows] * (num_rows - len(rows)))
    place_NK = np.full((TOKENS, CHOICES), num_rows)
    for row, choice in enumerate(rows):
        place_NK[divmod(choice, CHOICES)] = row
    np.testing.assert_array_equal(found.place_NK, place_NK)
    sizes = [np.sum(is_sent_NK & (expert_NK == expert)) for expert in range(EXPERTS)]
    np.testing.assert_array_equal(found.size_E, sizes)
