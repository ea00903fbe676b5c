"""The mixture of languages, p_l ~ D_l^(1/T): which pairs the k-th chunk of the stream holds.

Each language has a stream of its pairs, such as `de-en`, or one for each of its corpora, such as
`de-en/europarl`.
"""
# SPDX-License-Identifier: Apache-2.0

import random
from collections import Counter
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


def language_pair_of(stream: str) -> str:
    """Returns the language pair of a stream: `de-en` of `de-en` and of `de-en/europarl`."""
    return stream.partition("/")[0]


def stream_shares(
    counts: Mapping[str, int], weights: Mapping[str, float], temperature: float
) -> list[float]:
    """Returns each stream's share: of its language's, what its number of pairs times its weight is.

    A stream without a weight has 1; one with 0 doesn't count as text of its language either.
    """
    pairs: Counter[str] = Counter()
    weighted = {stream: count * weights.get(stream, 1.0) for stream, count in counts.items()}
    totals = dict.fromkeys(map(language_pair_of, counts), 0.0)
    for stream, count in counts.items():
        pairs[language_pair_of(stream)] += count if weighted[stream] else 0
        totals[language_pair_of(stream)] += weighted[stream]
    shares = temperature_shares([pairs[language] for language in totals], temperature)
    of_language = dict(zip(totals, shares, strict=True))
    return [
        of_language[language] * (weighted[stream] / totals[language]) if weighted[stream] else 0.0
        for stream, language in zip(counts, map(language_pair_of, counts), strict=True)
    ]


@dataclass(frozen=True)
class Mixture:
    """An endless sequence of (stream, pair) cut into chunks of about `chunk_pairs`.

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
    weights: Mapping[str, float] | None = None,
) -> Mixture:
    """Returns the mixture of streams with `counts` pairs each; those without pairs are left out.

    A stream's order depends on its name, its count and `seed`, not on other streams. It begins at
    `starts[stream]`, by default 0; `weights` are those of `stream_shares`.
    """
    shares = stream_shares(counts, weights or {}, temperature)
    integers = [round(share * _TOTAL_WEIGHT) for share in shares]
    draws = [random.Random(f"{seed} {stream}") for stream in counts]
    # The orders are drawn first: they must not depend on other streams.
    seeds = tuple(draw.randrange(_SEEDS) for draw in draws)
    return Mixture(
        counts=tuple(counts.values()),
        weights=tuple(integers),
        offsets=tuple(draw.randrange(sum(integers)) for draw in draws),
        seeds=seeds,
        starts=tuple((starts or {}).get(stream, 0) for stream in counts),
        chunk_pairs=chunk_pairs,
    )
