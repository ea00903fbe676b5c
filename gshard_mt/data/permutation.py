"""Permutations computed index by index: an epoch's order that is never stored."""
# SPDX-License-Identifier: Apache-2.0

import numpy as np

_ROUNDS = 6
_ODD = 0x9E3779B97F4A7C15


def permute(indices: np.ndarray, counts: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Returns where each index of [0, count) goes under the permutation that its seed selects.

    The three arrays are of one length; counts are at most 2^62. A Feistel network over the next
    power of 4; values outside the range are encrypted again (cycle walking).
    """
    limits = counts.astype(np.uint64)
    widths = _half_widths(counts)
    keys = mix(seeds.astype(np.uint64))
    found = _encrypt(indices.astype(np.uint64), widths, keys)
    outside = np.flatnonzero(found >= limits)
    while len(outside):
        found[outside] = _encrypt(found[outside], widths[outside], keys[outside])
        outside = outside[found[outside] >= limits[outside]]
    return found.astype(np.int64)


def _half_widths(counts: np.ndarray) -> np.ndarray:
    """Returns half the bits of the smallest power of 4 that is at least count, at least 1."""
    half = np.zeros(len(counts), np.uint64)
    for bits in range(1, 32):
        half += counts - 1 >= 1 << (2 * bits)
    return half + np.uint64(1)


def _encrypt(values: np.ndarray, widths: np.ndarray, keys: np.ndarray) -> np.ndarray:
    mask = (np.uint64(1) << widths) - np.uint64(1)
    left, right = values >> widths, values & mask
    for number in range(_ROUNDS):
        mixed = mix(keys + right + np.uint64(number << 40))
        left, right = right, left ^ (mixed & mask)
    return (left << widths) | right


def mix(values: np.ndarray, seed: int = 0) -> np.ndarray:
    """Returns uint64 values scrambled one to one, differently for every seed.

    SplitMix64's finalizer: every bit of the input affects every bit of the output.
    """
    values = values + np.uint64((seed + 1) * _ODD % (1 << 64))
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
