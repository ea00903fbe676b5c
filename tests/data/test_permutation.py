"""A permutation hits every place once, and different seeds give different ones."""
# SPDX-License-Identifier: Apache-2.0

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gshard_mt.data.permutation import permute


def permute_all(count: int, seed: int) -> list[int]:
    return permute(np.arange(count), np.full(count, count), np.full(count, seed)).tolist()


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 3000), st.integers(0, 2**62))
def test_every_place_is_hit_once(count, seed):
    assert sorted(permute_all(count, seed)) == list(range(count))


@given(st.lists(st.tuples(st.integers(1, 2**62), st.integers(0, 2**62)), min_size=1, max_size=9))
def test_places_of_different_counts_and_seeds_dont_touch_each_other(chosen):
    counts, seeds = np.array(chosen, np.int64).T
    found = permute(counts - 1, counts, seeds)
    assert (found >= 0).all() and (found < counts).all()
    for number in range(len(chosen)):
        one = slice(number, number + 1)
        assert permute(counts[one] - 1, counts[one], seeds[one])[0] == found[number]


def test_each_place_goes_everywhere_equally_often():
    count, num_seeds = 7, 7000
    images = np.array([permute_all(count, seed) for seed in range(num_seeds)])
    for place in range(count):
        hits = np.bincount(images[:, place], minlength=count)
        # Six standard deviations of a fair die.
        assert np.abs(hits - num_seeds / count).max() < 6 * np.sqrt(num_seeds / count)
    assert len({tuple(each) for each in images.tolist()}) > 3000  # of the 5040 that there are


def test_neighbours_are_torn_apart():
    order = np.array(permute_all(100_000, 5))
    assert abs(np.corrcoef(np.arange(100_000), order)[0, 1]) < 0.02
    assert np.median(np.abs(np.diff(order))) > 20_000  # 29,289 where the order is random
