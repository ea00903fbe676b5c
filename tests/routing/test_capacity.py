"""The arithmetic of capacity."""
# SPDX-License-Identifier: Apache-2.0

import pytest

from gshard_mt.routing.capacity import expert_capacity


@pytest.mark.parametrize(
    ("size", "experts", "factor", "expected"),
    [(512, 8, 2.0, 128), (1024, 2048, 2.0, 1), (10, 3, 1.0, 4), (100, 10, 1.1, 11), (8, 1, 2.0, 8)],
)
def test_capacity_is_the_factor_times_an_even_share(size, experts, factor, expected):
    assert expert_capacity(size, experts, factor) == expected


@pytest.mark.parametrize(("minimum", "expected"), [(1, 2), (2, 2), (4, 4), (9, 8)])
def test_a_minimum_counts_where_an_even_share_is_less_and_never_exceeds_the_group(
    minimum, expected
):
    assert expert_capacity(8, 8, 2.0, minimum) == expected
