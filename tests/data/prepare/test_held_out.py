"""Held-out strings are drawn as a plain reading of the rule draws them, from any parts."""
# SPDX-License-Identifier: Apache-2.0

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gshard_mt.data.permutation import mix
from gshard_mt.data.prepare import held_out
from gshard_mt.data.prepare.held_out import (
    candidates,
    choose_held_out,
    merge_candidates,
    pick_rows,
)
from gshard_mt.data.prepare.keys import KEYS

SEED = 3
# Of each language the (English key, number of words) of its rows.
LANGUAGES = st.dictionaries(
    st.sampled_from("abcd"),
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 4)), min_size=1, max_size=40),
    min_size=1,
)


def make_keys(rows) -> np.ndarray:
    keys = np.zeros(len(rows), KEYS)
    keys["id"] = np.arange(len(rows))
    keys["english"], keys["num_words"] = np.array(rows).T
    keys["pair"] = mix(np.arange(len(rows), dtype=np.uint64))
    return keys


def order_of(key: int) -> int:
    return int(mix(np.array([key], np.uint64), SEED)[0])


def slowly(languages, wanted, given_keys):
    strings = {}
    for language, rows in languages.items():
        testable = {key for key, words in rows if words >= 2}
        strings[language] = {
            key: max(words for other, words in rows if other == key) <= 2 for key in testable
        }
    chosen = {split: set(given_keys[split]) for split in ("test", "dev")}
    drawn = dict.fromkeys(range(31), 0)
    for language in sorted(wanted, key=lambda each: (len(languages[each]), each)):
        own = strings[language]
        have = {key: sum(key in other for other in strings.values()) for key in own}
        order = sorted(own, key=lambda k: (own[k], 2 * drawn[k] - have[k], order_of(k)))
        for split in ("test", "dev"):
            if split in wanted[language]:
                has = sum(key in chosen[split] for key in own)
                most = min(wanted[language][split], len(languages[language]) // 6)
                free = [k for k in order if k not in chosen["test"] and k not in chosen["dev"]]
                chosen[split].update(free[: max(0, most - has)])
        for key in own:
            drawn[key] += 1
    return {split: sorted(keys) for split, keys in chosen.items()}


@given(LANGUAGES, st.sets(st.integers(0, 30), max_size=3), st.integers(0, 4))
def test_strings_are_drawn_by_the_rule(languages, ready, number):
    given_keys = {"test": sorted(ready), "dev": []}
    wanted = {language: {"test": number, "dev": number} for language in languages}
    keys = {language: make_keys(rows) for language, rows in languages.items()}
    found = choose_held_out(
        {language: candidates(keys[language], SEED) for language in languages},
        {language: len(rows) for language, rows in languages.items()},
        wanted,
        {split: np.array(each, np.uint64) for split, each in given_keys.items()},
        SEED,
    )
    expected = slowly(languages, wanted, given_keys)
    assert {split: each.tolist() for split, each in found.items()} == expected


@given(LANGUAGES)
def test_candidates_of_parts_are_those_of_the_whole(languages):
    keys = make_keys([row for rows in languages.values() for row in rows])
    parts = np.array_split(keys, 3)
    merged = merge_candidates([candidates(part, SEED) for part in parts], SEED)
    for one, other in zip(merged, candidates(keys, SEED), strict=True):
        assert one.tolist() == other.tolist()


def test_only_the_first_strings_of_the_seeds_order_are_remembered(monkeypatch):
    monkeypatch.setattr(held_out, "CANDIDATES", 10)
    keys = make_keys([(key, 3 if key % 2 else 2) for key in range(100)])
    found = candidates(keys, SEED)
    longer = sorted((key for key in range(100) if key % 2), key=order_of)
    assert found.key.tolist() == sorted(longer[:10])


def test_one_free_row_is_picked_for_each_string():
    keys = make_keys([(1, 3), (1, 3), (2, 3), (3, 3), (1, 1)])
    is_free = np.array([True, True, True, True, True])
    held = np.array([1, 2], np.uint64)
    rows = pick_rows(keys, is_free, held, SEED)
    assert sorted(keys["english"][rows].tolist()) == [1, 2] and 4 not in rows
    is_free[[0, 1]] = False
    assert keys["english"][pick_rows(keys, is_free, held, SEED)].tolist() == [2]
