"""Keys: 64-bit hashes of sentences and pairs, which stand in for their text."""
# SPDX-License-Identifier: Apache-2.0

from typing import NamedTuple

import numpy as np

from gshard_mt.data.permutation import mix
from gshard_mt.data.prepare.drops import DroppedPair, dropped_pair

Split = tuple[str, str]  # language, split

# An id is the number of the corpus in the recipe, then the pair's in the corpus.
ENTRY_SHIFT = 40

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


class KeyedPairs(NamedTuple):
    """Pairs of one language (or tag) and split; `keys` has the fields of KEYS."""

    source: list[str]
    english: list[str]
    keys: np.ndarray

    def sentences(self) -> list[tuple[str, str]]:
        return list(zip(self.source, self.english, strict=True))

    def as_dropped(self) -> tuple[DroppedPair, ...]:
        """Returns the pairs as samples of dropped ones."""
        rows = zip(self.keys["id"].tolist(), self.source, self.english, strict=True)
        return tuple(dropped_pair(*row) for row in rows)

    def take(self, number: int) -> "KeyedPairs":
        """Returns the first pairs."""
        return KeyedPairs(self.source[:number], self.english[:number], self.keys[:number])

    def rows(self, rows: np.ndarray) -> "KeyedPairs":
        """Returns the pairs of some rows, in that order."""
        source, english = [self.source[i] for i in rows], [self.english[i] for i in rows]
        return KeyedPairs(source, english, self.keys[rows])


def join_keys(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Returns one key for an ordered pair of keys."""
    return mix(mix(left) + right)


def is_among(keys: np.ndarray, sorted_keys: np.ndarray) -> np.ndarray:
    """Tells for each key whether it is among sorted ones."""
    if not len(sorted_keys):
        return np.zeros(len(keys), bool)
    index = np.minimum(np.searchsorted(sorted_keys, keys), len(sorted_keys) - 1)
    return sorted_keys[index] == keys
