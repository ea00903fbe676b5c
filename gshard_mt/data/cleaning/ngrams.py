"""Character n-grams: how likely a line is in the text of a sample, without a trained model."""
# SPDX-License-Identifier: Apache-2.0

from typing import NamedTuple

import numpy as np

from gshard_mt.data.cleaning.characters import code_points
from gshard_mt.data.cleaning.fold import hash_texts

_ORDER = 4  # characters of the longest n-gram
_BITS = 17  # of a row in a table of counts
_PRIOR = 3.0  # weight of the shorter n-gram's probability, in occurrences
_CHARACTERS = 256  # an unseen character has the probability 1/256
_FOLDS = 4
_FNV_PRIME, _GOLDEN = np.uint64(0x100000001B3), np.uint64(0x9E3779B97F4A7C15)  # mix bits
_LINE = "\n" * (_ORDER - 1)  # between lines, so that no n-gram has letters of two


class LineScores(NamedTuple):
    """Log-likelihood of each line in nats, and the number of characters it is summed over."""

    total: np.ndarray  # float64
    length: np.ndarray  # int64

    @property
    def mean(self) -> np.ndarray:
        return self.total / self.length


class CharacterModel:
    """Smoothed n-gram counts of sample lines.

    A line is never scored by counts of itself: lines fall into folds by their content, and each is
    scored by the counts of the other folds.
    """

    def __init__(self, lines: list[str]):
        self._counts = np.zeros((_FOLDS, _ORDER, 1 << _BITS), np.int32)
        keys, fold, _, _ = _read(lines)
        for number in range(_FOLDS):
            is_here = fold == number
            for order, key in enumerate(keys):
                self._counts[number, order] = np.bincount(key[is_here], minlength=1 << _BITS)
        self._sums = self._counts.sum(axis=0, dtype=np.int32)
        self._totals = np.bincount(fold, minlength=_FOLDS)

    def score(self, lines: list[str]) -> LineScores:
        """Returns the score of each line; it does not depend on the other lines."""
        if not lines:
            return LineScores(np.zeros(0), np.zeros(0, np.int64))
        keys, fold, where, length = _read(lines)
        fold = fold[where]
        likely = np.full(len(where), 1.0 / _CHARACTERS)
        before = (self._totals.sum() - self._totals[fold]).astype(np.float64)
        for order in range(_ORDER):
            seen = self._seen(order, keys[order][where], fold)
            likely = (seen + _PRIOR * likely) / (before + _PRIOR)
            if order + 1 < _ORDER:
                before = self._seen(order, keys[order][where - 1], fold)
        return LineScores(np.add.reduceat(np.log(likely), np.cumsum(length) - length), length)

    def _seen(self, order: int, keys: np.ndarray, fold: np.ndarray) -> np.ndarray:
        return (self._sums[order, keys] - self._counts[fold, order, keys]).astype(np.float64)


def _read(lines: list[str]) -> tuple[list[np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
    """Returns the keys of the n-grams that end at each character, by order, and its fold.

    Then the places of the characters of lines, each with one that ends the line (others stand
    between lines), and the number of these in each line.
    """
    lines = [line.replace("\n", " ").lower() for line in lines]
    codes = code_points(_LINE + "".join([line + _LINE for line in lines])).astype(np.uint64)
    keys, key = [], codes
    for order in range(_ORDER):
        if order:
            key = np.concatenate([key[:1], key[:-1]]) * _FNV_PRIME + codes
        mixed = (key + np.uint64(order + 1)) * _GOLDEN
        keys.append((mixed >> np.uint64(64 - _BITS)).astype(np.int64))
    length = np.array([len(line) + 1 for line in lines], np.int64)
    step = length - 1 + len(_LINE)
    starts = len(_LINE) + np.cumsum(step) - step
    where = np.arange(length.sum()) + np.repeat(starts - (np.cumsum(length) - length), length)
    fold = np.zeros(len(codes), np.int64)
    of_line = (hash_texts(lines) % np.uint64(_FOLDS)).astype(np.int64)
    fold[len(_LINE) :] = np.repeat(of_line, step)
    return keys, fold, where, length
