"""Evidence: tells whether a line is like the rest of its corpus, or like another language's text.

Identification alone can't tell a language that its model doesn't know from text that is in the
wrong language. The corpus can: its own lines are like each other.
"""
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from gshard_mt.data.cleaning.ngrams import CharacterModel

EVIDENCE_CHARACTERS = 300  # of a line; more would tell nothing new
MARGIN = 3.0  # nats by which a text in another language must be likelier in that language


class EvidenceTexts(NamedTuple):
    """The lines that evidence is made of: the corpus's own, and those of other languages."""

    own: list[str]
    others: dict[str, list[str]]  # by label; the English sides of the corpus are "en"


class Evidence:
    """Character models of `EvidenceTexts`."""

    def __init__(self, texts: EvidenceTexts):
        self.own = CharacterModel(texts.own)
        self.others = {label: CharacterModel(lines) for label, lines in texts.others.items()}
        scores = self.own.score(texts.own)
        self._mean = float(scores.total.sum() / max(1, scores.length.sum()))

    def likeness(self, lines: list[str]) -> np.ndarray:
        """Returns how much each line is like the corpus: about 0 for its own, negative for others.

        The unit is the same for lines of any length.
        """
        scores = self.own.score(lines)
        return (scores.mean - self._mean) * np.sqrt(scores.length)

    def advantage(self, lines: list[str], label: str) -> np.ndarray:
        """Returns by how many nats each line is likelier in the corpus than in another language."""
        return self.own.score(lines).total - self.others[label].score(lines).total

    def is_other(
        self,
        lines: Sequence[str],
        labels: Sequence[str],
        limits: np.ndarray,
        certain: frozenset[str],
    ) -> np.ndarray:
        """Tells for each line, identified as another language, whether it really is in that one.

        It is if it is likelier in that language, or, without text of it, if its likeness is below
        the line's limit. Languages in `certain` need no evidence.
        """
        found = np.array([label in certain for label in labels], bool)
        groups: Mapping[str, list[int]] = {}
        for row, label in enumerate(labels):
            if label not in certain:
                groups.setdefault(label if label in self.others else "", []).append(row)
        for label, rows in groups.items():
            some = [lines[row] for row in rows]
            found[rows] = (
                self.advantage(some, label) < -MARGIN
                if label
                else self.likeness(some) < limits[rows]
            )
        return found
