"""The best and worst translated sentences of a language, for people to read."""
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Sequence
from typing import NamedTuple

from gshard_mt.evaluate.scores import sentence_chrf

NUM_SAMPLES = 3
MAX_CHARACTERS = 600  # of a displayed text


class ScoredSentence(NamedTuple):
    """A sentence with its reference, its translation and the chrF of the two, from 0 to 100."""

    source: str
    reference: str
    hypothesis: str
    chrf: float


class Samples(NamedTuple):
    """No sentence is in both, so with few sentences `worst` may be empty."""

    best: tuple[ScoredSentence, ...]  # the best one first
    worst: tuple[ScoredSentence, ...]  # the worst one first


def choose(sources: Sequence[str], references: Sequence[str], hypotheses: Sequence[str]) -> Samples:
    """Returns the best and the worst sentences by chrF, preferring long ones at equal chrF.

    Repeated sentences with the same translation count once.
    """
    chrfs = sentence_chrf(hypotheses, references)
    found = {
        (source, reference, hypothesis): ScoredSentence(
            _shortened(source), _shortened(reference), _shortened(hypothesis), chrf
        )
        for source, reference, hypothesis, chrf in zip(
            sources, references, hypotheses, chrfs, strict=True
        )
    }
    ranked = sorted(found.values(), key=lambda sample: (-sample.chrf, -len(sample.reference)))
    best, rest = ranked[:NUM_SAMPLES], ranked[NUM_SAMPLES:]
    worst = sorted(rest, key=lambda sample: (sample.chrf, -len(sample.reference)))
    return Samples(tuple(best), tuple(worst[:NUM_SAMPLES]))


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else f"{text[: MAX_CHARACTERS - 1]}…"
