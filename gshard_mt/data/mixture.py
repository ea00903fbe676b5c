"""The mixture of languages, p_l ~ D_l^(1/T): which pairs the k-th chunk of the stream takes."""
# SPDX-License-Identifier: Apache-2.0

import random
from collections.abc import Sequence
from dataclasses import dataclass

import grain.experimental
import numpy as np

from gshard_mt.errors import ConfigError

_TOTAL_WEIGHT = 1 << 40  # shares are multiples of 1 / _TOTAL_WEIGHT: exact, however long the stream

_SEEDS = 1 << 32


def temperature_shares(counts: Sequence[int], temperature: float) -> list[float]:
    """Returns each language's share, D_l^(1/T) over their sum: T = 1 is the data's own."""
    if not temperature > 0:
        raise ConfigError(f"data.temperature is {temperature}; accepted: more than 0")
    most = max(counts)
    weights = [(count / most) ** (1 / temperature) if count else 0.0 for count in counts]
    return [weight / sum(weights) for weight in weights]


@dataclass(frozen=True)
class Mixture:
    """An endless stream of (language, pair) cut into chunks of about `chunk_pairs`.

    Chunk k takes of language l the positions [floor(k n p_l + u_l), floor((k + 1) n p_l + u_l)) of
    that language's own stream: shares are exact at every chunk border, in integers.
    """

    counts: tuple[int, ...]  # D_l
    weights: tuple[int, ...]  # p_l * sum of weights
    offsets: tuple[int, ...]  # u_l * sum of weights
    seeds: tuple[int, ...]  # of each language's order
    chunk_pairs: int

    def span(self, language: int, chunk: int) -> tuple[int, int]:
        """Returns the positions [start, stop) that a chunk takes of a language's stream."""
        start, stop = (
            (number * self.chunk_pairs * self.weights[language] + self.offsets[language])
            // sum(self.weights)
            for number in (chunk, chunk + 1)
        )
        return start, stop

    def indices(self, language: int, chunk: int) -> np.ndarray:
        """Returns the indices of a language's pairs in a chunk, in the order of its stream.

        Each epoch of the stream is a permutation: every pair is seen once before any is seen again.
        """
        count, seed = self.counts[language], self.seeds[language]
        indices = []
        for position in range(*self.span(language, chunk)):
            epoch, place = divmod(position, count)
            # A permutation that is computed index by index: no order of an epoch is ever held.
            indices.append(
                grain.experimental.index_shuffle(
                    place, max_index=count - 1, seed=(seed + epoch) % _SEEDS, rounds=4
                )
            )
        return np.array(indices, np.int64)


def make_mixture(counts: Sequence[int], temperature: float, chunk_pairs: int, seed: int) -> Mixture:
    """Returns the mixture of languages with so many pairs each; one without pairs takes no part."""
    shares = temperature_shares(counts, temperature)
    weights = tuple(round(share * _TOTAL_WEIGHT) for share in shares)
    draw = random.Random(seed)
    offsets = tuple(draw.randrange(sum(weights)) for _ in counts)
    seeds = tuple(draw.randrange(_SEEDS) for _ in counts)
    return Mixture(tuple(counts), weights, offsets, seeds, chunk_pairs)
