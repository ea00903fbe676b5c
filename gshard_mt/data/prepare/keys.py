"""Keys: 64-bit hashes of sentences and pairs, which stand in for their text."""
# SPDX-License-Identifier: Apache-2.0

from typing import NamedTuple

import numpy as np

KEYS = np.dtype(
    [
        ("id", "<i8"),
        ("source", "<u8"),  # the folded source
        ("english", "<u8"),  # the folded English
        ("pair", "<u8"),  # both sides as they are
        ("near", "<u8"),  # both sides in their near-duplicate form
        ("num_words", "u1"),  # of English that can test translation; else 0
    ]
)

_ODD = 0x9E3779B97F4A7C15


class KeyedPairs(NamedTuple):
    """Pairs of one language (or tag) and split; `keys` has the fields of KEYS."""

    source: list[str]
    english: list[str]
    keys: np.ndarray

    def sentences(self) -> list[tuple[str, str]]:
        return list(zip(self.source, self.english, strict=True))

    def take(self, number: int) -> "KeyedPairs":
        """Returns the first pairs."""
        return KeyedPairs(self.source[:number], self.english[:number], self.keys[:number])

    def rows(self, rows: np.ndarray) -> "KeyedPairs":
        """Returns the pairs of some rows, in that order."""
        source, english = [self.source[i] for i in rows], [self.english[i] for i in rows]
        return KeyedPairs(source, english, self.keys[rows])


def mix_keys(keys: np.ndarray, seed: int = 0) -> np.ndarray:
    """Returns 64-bit keys scrambled one to one (SplitMix64), differently for every seed."""
    z = keys + np.uint64((seed + 1) * _ODD % (1 << 64))
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def join_keys(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Returns one key for an ordered pair of keys."""
    return mix_keys(mix_keys(left) + right)


def is_among(keys: np.ndarray, sorted_keys: np.ndarray) -> np.ndarray:
    """Tells for each key whether it is among sorted ones."""
    if not len(sorted_keys):
        return np.zeros(len(keys), bool)
    index = np.minimum(np.searchsorted(sorted_keys, keys), len(sorted_keys) - 1)
    return sorted_keys[index] == keys
