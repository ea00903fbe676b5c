"""Drops: how many pairs were dropped for each reason, with a few samples."""
# SPDX-License-Identifier: Apache-2.0

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

NUM_SAMPLES = 3
_SAMPLE_CHARACTERS = 200

Sentences = tuple[str, str]  # source, English


@dataclass
class Drops:
    """Counts by language and reason, with the first samples of each."""

    counts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    samples: dict[tuple[str, str], list[Sentences]] = field(default_factory=dict)

    def add(self, language: str, reason: str, number: int, samples: list[Sentences]) -> None:
        """Counts pairs; `samples` are the first few of them."""
        self.counts[language][reason] += number
        held = self.samples.setdefault((language, reason), [])
        for source, english in samples[: NUM_SAMPLES - len(held)]:
            held.append((source[:_SAMPLE_CHARACTERS], english[:_SAMPLE_CHARACTERS]))

    def merge(self, other: "Drops", languages: Mapping[str, str] | None = None) -> None:
        """Adds the counts of `other`; `languages` optionally renames its languages."""
        for language, counts in sorted(other.counts.items()):
            name = languages[language] if languages else language
            for reason, number in counts.items():
                self.add(name, reason, number, other.samples[language, reason])


class Tally(NamedTuple):
    """The drops of one language and reason, which can be summed in any order."""

    number: int
    samples: list[tuple[int, int, str, str]]  # part, index in it, source, English


def tally(drops: Drops, part: int) -> Iterator[tuple[tuple[str, str], Tally]]:
    """Yields ((language, reason), Tally) of the `part`-th part of the text."""
    for (language, reason), held in drops.samples.items():
        samples = [(part, index, *sentences) for index, sentences in enumerate(held)]
        yield (language, reason), Tally(drops.counts[language][reason], samples)


def merge_tallies(tallies: Iterable[Tally]) -> Tally:
    """Returns the sum, with the first samples by part and index."""
    tallies = list(tallies)
    samples = sorted(sample for each in tallies for sample in each.samples)
    return Tally(sum(each.number for each in tallies), samples[:NUM_SAMPLES])
