"""The sentences of a language that came out best and worst, for people to read."""
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Sequence
from typing import NamedTuple

from gshard_mt.evaluate.scores import sentence_chrf

NUM_SAMPLES = 3
MAX_CHARACTERS = 600  # of a text that is shown


class Sample(NamedTuple):
    """One sentence with its English, ours, and the sentence's own chrF, from 0 to 100."""

    source: str
    reference: str
    hypothesis: str
    chrf: float


class Samples(NamedTuple):
    """No sentence is in both, so that of few sentences the worst may be none."""

    best: tuple[Sample, ...]  # the best one first
    worst: tuple[Sample, ...]  # the worst one first


def choose(sources: Sequence[str], references: Sequence[str], hypotheses: Sequence[str]) -> Samples:
    """Returns the best and the worst sentences by chrF; of equal ones the longest tell most.

    A sentence that is there many times with the same outcome counts once.
    """
    chrfs = sentence_chrf(hypotheses, references)
    found = {
        (source, reference, hypothesis): Sample(
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
