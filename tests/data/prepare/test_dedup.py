"""Duplicates are those of a plain search through all pairs, in memory and on disk alike."""
# SPDX-License-Identifier: Apache-2.0

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gshard_mt.data.permutation import mix
from gshard_mt.data.prepare import dedup
from gshard_mt.data.prepare.dedup import find_duplicates, find_duplicates_on_disk
from gshard_mt.data.prepare.keys import KEYS, is_among, join_keys

# (pair, near): equal pairs have one near form, as they have in text.
ROWS = st.lists(st.integers(0, 12), max_size=40).map(lambda pairs: [(p, p // 3) for p in pairs])


def make_keys(rows: list[tuple[int, int]]) -> np.ndarray:
    keys = np.zeros(len(rows), KEYS)
    keys["id"] = np.random.default_rng(0).permutation(len(rows))
    if rows:
        keys["pair"], keys["near"] = mix(np.array(rows, np.uint64).T)
    return keys


def slowly(keys: np.ndarray) -> list[int]:
    found = [0] * len(keys)
    pairs, nears = set(), set()
    for row in np.argsort(keys["id"]):
        pair, near = int(keys["pair"][row]), int(keys["near"][row])
        found[row] = 1 if pair in pairs else 2 if near in nears else 0
        pairs.add(pair)
        nears.add(near)
    return found


@given(ROWS)
def test_the_first_of_equal_and_nearly_equal_pairs_is_kept(rows):
    keys = make_keys(rows)
    assert find_duplicates(keys).tolist() == slowly(keys)


def test_many_parts_on_disk_find_what_one_in_memory_does(tmp_path, monkeypatch):
    monkeypatch.setattr(dedup, "PART_ROWS", 64)
    random = np.random.default_rng(1)
    keys = make_keys([(int(p), int(p) // 3) for p in random.integers(0, 900, 2000)])
    expected = find_duplicates(keys)
    blocks = np.array_split(keys, [100, 101, 700])
    assert find_duplicates_on_disk(blocks, len(keys), tmp_path).tolist() == expected.tolist()
    assert set(expected.tolist()) == {0, 1, 2} and not list(tmp_path.iterdir())


def test_which_side_a_text_is_on_matters_to_a_pairs_key():
    left, right = np.array([1, 2, 3], np.uint64), np.array([4, 5, 6], np.uint64)
    keys = np.concatenate([join_keys(left, right), join_keys(right, left), join_keys(left, left)])
    assert len(set(keys.tolist())) == 9


@given(st.lists(st.integers(0, 9)), st.lists(st.integers(0, 9)))
def test_keys_are_looked_up_among_sorted_ones(keys, others):
    found = is_among(np.array(keys, np.uint64), np.unique(np.array(others, np.uint64)))
    assert found.tolist() == [key in others for key in keys]
