"""The mixture of languages, p_l ~ D_l^(1/T): which pairs the k-th chunk of the stream holds."""
# SPDX-License-Identifier: Apache-2.0

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gshard_mt.data.permutation import permute

_TOTAL_WEIGHT = 1 << 40  # shares are multiples of 1 / _TOTAL_WEIGHT: exact at any length
_SEEDS = 1 << 62


def temperature_shares(counts: Sequence[int], temperature: float) -> list[float]:
    """Returns each language's share, D_l^(1/T) divided by their sum; T = 1 follows the data."""
    most = max(counts)
    weights = [(count / most) ** (1 / temperature) if count else 0.0 for count in counts]
    return [weight / sum(weights) for weight in weights]


@dataclass(frozen=True)
class Mixture:
    """An endless stream of (language, pair) cut into chunks of about `chunk_pairs`.

    Chunk k takes the positions [floor(k n p_l + u_l), floor((k + 1) n p_l + u_l)) of the stream of
    language l, relative to its start: shares are exact at every chunk boundary, in integers.
    """

    counts: tuple[int, ...]  # D_l
    weights: tuple[int, ...]  # p_l * sum of weights
    offsets: tuple[int, ...]  # u_l * sum of weights
    seeds: tuple[int, ...]  # of each language's order
    starts: tuple[int, ...]  # where chunk 0 begins in each language's stream
    chunk_pairs: int

    def span(self, language: int, chunk: int) -> tuple[int, int]:
        """Returns the positions [start, stop) of a language's stream that a chunk takes."""
        start, stop = (
            (number * self.chunk_pairs * self.weights[language] + self.offsets[language])
            // sum(self.weights)
            for number in (chunk, chunk + 1)
        )
        return self.starts[language] + start, self.starts[language] + stop

    def indices(self, chunk: int) -> list[np.ndarray]:
        """Returns the indices of each language's pairs in a chunk, in the order of its stream.

        Each epoch of a stream is a permutation: every pair is seen once before any is repeated.
        """
        spans = [self.span(language, chunk) for language in range(len(self.counts))]
        lengths = [stop - start for start, stop in spans]
        positions = np.concatenate([np.arange(*span, dtype=np.int64) for span in spans])
        counts = np.repeat(np.array(self.counts, np.int64), lengths)
        epochs, offsets = np.divmod(positions, counts)
        seeds = np.repeat(np.array(self.seeds, np.int64), lengths) + epochs
        return np.split(permute(offsets, counts, seeds), np.cumsum(lengths)[:-1])


def make_mixture(
    counts: Mapping[str, int],
    temperature: float,
    chunk_pairs: int,
    seed: int,
    starts: Mapping[str, int] | None = None,
) -> Mixture:
    """Returns the mixture of languages with `counts` pairs each; those without pairs are left out.

    A language's order depends on its name, its count and `seed`, not on other languages. Its
    stream begins at `starts[language]`, by default 0.
    """
    shares = temperature_shares([*counts.values()], temperature)
    weights = [round(share * _TOTAL_WEIGHT) for share in shares]
    draws = [random.Random(f"{seed} {language}") for language in counts]
    # The orders are drawn first: they must not depend on other languages.
    seeds = tuple(draw.randrange(_SEEDS) for draw in draws)
    return Mixture(
        counts=tuple(counts.values()),
        weights=tuple(weights),
        offsets=tuple(draw.randrange(sum(weights)) for draw in draws),
        seeds=seeds,
        starts=tuple((starts or {}).get(language, 0) for language in counts),
        chunk_pairs=chunk_pairs,
    )
