"""Drops: how many pairs were read, and dropped for each reason, with a few samples."""
# SPDX-License-Identifier: Apache-2.0

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

NUM_SAMPLES = 3
READ = ""  # in the place of a reason: all pairs read
_SAMPLE_CHARACTERS = 200

Sentences = tuple[str, str]  # source, English


class DropKey(NamedTuple):
    language: str  # or its tag
    corpus: int  # number in the recipe
    reason: str


class DroppedPair(NamedTuple):
    id: int
    source: str
    english: str


class Tally(NamedTuple):
    """A number of pairs, with those of the lowest ids; tallies can be summed in any order."""

    number: int = 0
    samples: tuple[DroppedPair, ...] = ()


@dataclass
class Drops:
    """The tally of each language, corpus and reason."""

    tallies: dict[DropKey, Tally] = field(default_factory=dict)

    def add(self, key: DropKey, found: Tally) -> None:
        self.tallies[key] = merge_tallies([self.tallies.get(key, Tally()), found])

    def merge(self, other: "Drops", languages: Mapping[str, str] | None = None) -> None:
        """Adds the tallies of `other`; `languages` optionally renames its languages."""
        for key, found in other.tallies.items():
            name = languages[key.language] if languages else key.language
            self.add(key._replace(language=name), found)

    def by_reason(self) -> dict[str, dict[str, Tally]]:
        """Returns language -> reason -> the tally of all corpora, READ included, sorted."""
        found: dict[str, dict[str, Tally]] = defaultdict(dict)
        for key, each in sorted(self.tallies.items()):
            before = found[key.language].get(key.reason, Tally())
            found[key.language][key.reason] = merge_tallies([before, each])
        return {language: dict(sorted(found[language].items())) for language in sorted(found)}

    def by_corpus(self) -> dict[int, dict[str, Tally]]:
        """Returns corpus -> reason -> the tally of all its languages, READ included."""
        found: dict[int, dict[str, Tally]] = defaultdict(dict)
        for key, each in sorted(self.tallies.items()):
            before = found[key.corpus].get(key.reason, Tally())
            found[key.corpus][key.reason] = merge_tallies([before, each])
        return dict(sorted(found.items()))

    def counts(self, language: str) -> dict[str, int]:
        """Returns the number of dropped pairs of a language by reason."""
        counts: Counter[str] = Counter()
        for key, each in self.tallies.items():
            if key.language == language and key.reason != READ:
                counts[key.reason] += each.number
        return dict(sorted(counts.items()))


def dropped_pair(id: int, source: str, english: str) -> DroppedPair:
    """Returns a sample, cut to a length fit to print."""
    return DroppedPair(id, source[:_SAMPLE_CHARACTERS], english[:_SAMPLE_CHARACTERS])


def merge_tallies(tallies: Iterable[Tally]) -> Tally:
    """Returns the sum, with the samples of the lowest ids."""
    tallies = list(tallies)
    samples = sorted(sample for each in tallies for sample in each.samples)
    return Tally(sum(each.number for each in tallies), tuple(samples[:NUM_SAMPLES]))
