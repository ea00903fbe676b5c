"""Losses: which languages and corpora lose much of their text to one reason, for the user."""
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from gshard_mt.data.prepare.drops import READ, Drops, Tally

MUCH = 0.2  # share of the pairs read
_WANTED = "max_pairs"  # no loss: the recipe asks for it

# How to keep what is dropped for a reason. The other reasons are switches of data.cleaning.
_SWITCHES = {
    "empty": "none: a side is empty",
    "too_long": "data.cleaning.max_characters",
    "held_out": "data.num_dev, data.num_test, data.keep_out",
    "row_length": "data.source_length, data.target_length",
    "dev_row_length": "data.source_length, data.target_length",
    "length_ratio": "data.cleaning.max_length_ratio",
    "duplicate": "data.cleaning.duplicates=false",
    "near_duplicate": "data.cleaning.near_duplicates=false",
}

# What is likely the case if more than half of the pairs are dropped for a reason.
_MOSTLY = {
    "swapped": "English is on the left: are the columns exchanged?",
    "language": "is it this language's code?",
    "script": "is it this language's code?",
}


class Loss(NamedTuple):
    """What a language or a corpus lost to one reason."""

    name: str
    reason: str
    tally: Tally
    num_read: int
    is_all: bool  # nothing is left for training, for this and other reasons

    @property
    def share(self) -> float:
        return self.tally.number / self.num_read

    def describe(self) -> str:
        """Returns one line."""
        ids = ", ".join(str(pair.id) for pair in self.tally.samples)
        switch = _SWITCHES.get(self.reason, f"data.cleaning.{self.reason}=false")
        cause = _MOSTLY.get(self.reason) if self.share > 0.5 else None
        cause = f"; {cause}" if cause else ""
        end = "; no pair is left" if self.is_all else ""
        return (
            f"{self.name}: {self.share:.0%} of {self.num_read} pairs dropped as {self.reason}"
            f"{cause}{end} (ids {ids}; switch: {switch})"
        )


def find_losses(
    drops: Drops, num_left: Mapping[str, int], corpora: Iterable[str], most: float = MUCH
) -> list[Loss]:
    """Returns the losses of languages, then of corpora, that are more than `most` of their pairs.

    `num_left` are the pairs of each language in all splits, `corpora` the sources of the recipe. Of
    a language without any, the most frequent reason is given. A corpus is left out if a loss of its
    language says the same.
    """
    found = []
    said: set[tuple[str, str]] = set()
    for language, tallies in drops.by_reason().items():
        some = _large(f"{language}-en", tallies, num_left[language] == 0, most)
        said |= {(language, loss.reason) for loss in some}
        found += some
    languages: dict[tuple[int, str], set[str]] = {}
    for key in drops.tallies:
        languages.setdefault((key.corpus, key.reason), set()).add(key.language)
    sources = list(corpora)
    for corpus, tallies in drops.by_corpus().items():
        name = f"corpus {corpus + 1} ({sources[corpus]})"
        for loss in _large(name, tallies, False, most):
            if not any((each, loss.reason) in said for each in languages[corpus, loss.reason]):
                found.append(loss)
    return found


def _large(name: str, tallies: Mapping[str, Tally], is_none_left: bool, most: float) -> list[Loss]:
    num_read = tallies.get(READ, Tally()).number
    reasons = sorted(set(tallies) - {READ, _WANTED}, key=lambda reason: -tallies[reason].number)
    return [
        Loss(name, reason, tallies[reason], num_read, is_none_left)
        for place, reason in enumerate(reasons)
        if tallies[reason].number > most * num_read or (is_none_left and place == 0)
    ]
