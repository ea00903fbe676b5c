"""Pairs: a block of normalized pairs, the input of the filters."""
# SPDX-License-Identifier: Apache-2.0

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from gshard_mt.data.cleaning.calibration import Calibration
from gshard_mt.data.cleaning.characters import MARKUP
from gshard_mt.data.cleaning.fold import fold_lines
from gshard_mt.data.cleaning.lines import Lines, read_lines
from gshard_mt.data.cleaning.placeholders import without_placeholders


class Side(NamedTuple):
    """One side of a block: normalized text, its words without placeholders, and folded text."""

    texts: list[str]
    lines: Lines
    words: list[str]
    word_lines: Lines
    folded: list[str]


@dataclass(frozen=True)
class PairBlock:
    """Pairs of one language, with what was only visible before they were normalized."""

    source: Side
    english: Side
    language: str
    calibration: Calibration
    is_long: np.ndarray  # bool
    is_broken: np.ndarray  # bool
    # side -> the label of the language that it is in instead, an object array; filled on demand.
    found: dict[str, np.ndarray] = field(default_factory=dict)


def make_side(lines: Lines, scripts: frozenset[str]) -> Side:
    """Returns a side of a block of normalized lines.

    Names in placeholders and addresses are not words.
    """
    texts = lines.split()
    folded = fold_lines(lines, texts)
    marked = np.flatnonzero(lines.has(MARKUP) | lines.has_inner_dots())
    if not len(marked):
        return Side(texts, lines, texts, lines, folded)
    words = list(texts)
    for row in marked:
        words[row] = without_placeholders(texts[row])
    return Side(texts, lines, words, read_lines(words, scripts), folded)
