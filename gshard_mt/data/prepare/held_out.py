"""Held-out sets: English strings that no language trains on, drawn first from small languages."""
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from gshard_mt.data.cleaning.placeholders import MIN_WORDS
from gshard_mt.data.permutation import mix
from gshard_mt.data.prepare.keys import is_among

CANDIDATES = 1 << 15  # English strings kept of each language to draw from

_MAX_SHARE = 3  # at most a third of a language's pairs is held out
_SPLITS = ("test", "dev")

Keys = np.ndarray  # uint64


class Candidates(NamedTuple):
    """Keys of a language's distinct English strings: all, or the first in the seed's order.

    The order is the same for all languages, so they keep the same ones of the strings they share.
    """

    key: Keys  # sorted
    is_short: np.ndarray  # bool: every spelling of it has at most MIN_WORDS words


def candidates(keys: np.ndarray, seed: int) -> Candidates:
    """Returns the candidates among rows of keys.KEYS."""
    keys = keys[keys["num_words"] >= MIN_WORDS]
    return _first(Candidates(keys["english"], keys["num_words"] <= MIN_WORDS), seed)


def merge_candidates(parts: Iterable[Candidates], seed: int) -> Candidates:
    """Returns what `candidates` would for all rows, from its results for parts of them."""
    parts = list(parts)
    key, is_short = (np.concatenate([part[field] for part in parts]) for field in (0, 1))
    return _first(Candidates(key, is_short), seed)


def _first(found: Candidates, seed: int) -> Candidates:
    # Longer spellings come first: a string is short only if all are.
    order = np.argsort(found.is_short, kind="stable")
    key, first = np.unique(found.key[order], return_index=True)
    is_short = found.is_short[order][first]
    if len(key) > CANDIDATES:
        chosen = np.sort(np.lexsort((mix(key, seed), is_short))[:CANDIDATES])
        key, is_short = key[chosen], is_short[chosen]
    return Candidates(key, is_short)


def choose_held_out(
    found: Mapping[str, Candidates],
    num_pairs: Mapping[str, int],
    wanted: Mapping[str, Mapping[str, int]],
    given: Mapping[str, Keys],
    seed: int,
) -> dict[str, Keys]:
    """Draws English strings until each language has `wanted[language][split]` pairs with them.

    The smallest language draws first and prefers strings that many larger languages share: those
    then need few more of their own, and little text is lost to training. `given` are the keys of
    ready-made splits. A language gives up at most a third of its pairs. Returns the sorted keys of
    each split.
    """
    key, num_have = np.unique(
        np.concatenate([each.key for each in found.values()]), return_counts=True
    )
    split_of = np.zeros(len(key), np.int8)  # 0: not held out; n: the n-th split
    for number, split in enumerate(_SPLITS, 1):
        split_of[np.isin(key, given[split]) & (split_of == 0)] = number
    num_drawn = np.zeros(len(key), np.int64)  # how many languages with the string have drawn
    order_of_seed = mix(key, seed)
    for language in sorted(wanted, key=lambda each: (num_pairs[each], each)):
        index = np.searchsorted(key, found[language].key)
        gain = 2 * num_drawn[index] - num_have[index]
        index = index[np.lexsort((order_of_seed[index], gain, found[language].is_short))]
        most = num_pairs[language] // (2 * _MAX_SHARE)
        for number, split in enumerate(_SPLITS, 1):
            if split in wanted[language]:
                has = int(np.sum(split_of[index] == number))
                missing = min(wanted[language][split], most) - has
                free = index[split_of[index] == 0]
                split_of[free[: max(0, missing)]] = number
        num_drawn[index] += 1
    return {
        split: np.union1d(key[split_of == number], given[split])
        for number, split in enumerate(_SPLITS, 1)
    }


def pick_rows(keys: np.ndarray, is_free: np.ndarray, held_out: Keys, seed: int) -> np.ndarray:
    """Returns one row for each held-out English string, in the seed's order.

    Of several free translations of a string, the first in that order is taken.
    """
    is_testable = keys["num_words"] >= MIN_WORDS
    rows = np.flatnonzero(is_free & is_testable & is_among(keys["english"], held_out))
    rows = rows[np.lexsort((keys["id"][rows], mix(keys["pair"][rows], seed)))]
    _, first = np.unique(keys["english"][rows], return_index=True)
    return rows[np.sort(first)]
