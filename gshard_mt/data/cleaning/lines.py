"""Lines: a block of lines as arrays of characters, to count or change all in one call."""
# SPDX-License-Identifier: Apache-2.0

import unicodedata
from typing import NamedTuple

import numpy as np

from gshard_mt.data.cleaning.characters import (
    CHANGED,
    COMPOSES,
    DENSE,
    DIGIT,
    HIDDEN,
    LATIN,
    MARK,
    NOTHING,
    classes_of,
    code_points,
    mapping,
    to_text,
)
from gshard_mt.data.normalization import is_invisible, normalized

_FEED, _SPACE, _DOT = 10, 32, 46


class Lines(NamedTuple):
    """A block of lines, each ended by a line feed, as text, code points and classes."""

    text: str
    codes: np.ndarray  # uint32
    classes: np.ndarray  # uint16
    starts: np.ndarray  # int64, where each line starts
    present: int  # the classes that any character has
    counts: dict[int, np.ndarray]  # what `count` has returned

    def split(self) -> list[str]:
        """Returns the lines."""
        return self.text.split("\n")[:-1]

    def count(self, kind: int) -> np.ndarray:
        """Returns for each line how many characters are of all the given classes."""
        if kind & self.present != kind:
            return np.zeros(len(self.starts), np.int64)
        if kind not in self.counts:
            is_it = (self.classes & kind) == kind
            self.counts[kind] = np.add.reduceat(is_it, self.starts, dtype=np.int64)
        return self.counts[kind]

    def weigh(self, kind: int) -> np.ndarray:
        """Returns `count` of letters of a class, in the number of Latin letters they amount to."""
        number = self.count(kind)
        return number + 2 * self.count(kind | DENSE) if self.present & DENSE else number

    def has(self, kind: int) -> np.ndarray:
        """Tells for each line whether it has a character of a class; fast if few have."""
        if not self.present & kind:
            return np.zeros(len(self.starts), bool)
        return self._at(np.flatnonzero((self.classes & kind) != 0))

    def has_inner_dots(self) -> np.ndarray:
        """Tells for each line whether a Latin letter follows a full stop, as in `example.org`."""
        dots = np.flatnonzero(self.codes == _DOT)
        return self._at(dots[(self.classes[dots + 1] & LATIN) != 0])

    def numbers(self) -> list[str]:
        """Returns the runs of digits of each line, separated by spaces."""
        is_digit = (self.classes & DIGIT) != 0
        is_itself = is_digit | (self.codes == _FEED)
        is_kept = is_itself.copy()
        is_kept[1:] |= is_digit[:-1]
        found = np.where(is_itself, self.codes, np.uint32(_SPACE))[is_kept]
        return to_text(found).replace(" \n", "\n").split("\n")[:-1]

    def is_settled(self) -> np.ndarray:
        """Tells for each line whether it is certainly in NFC, by Unicode's quick check."""
        if not self.present & (MARK | COMPOSES):
            return np.ones(len(self.starts), bool)
        is_mark = (self.classes & MARK) != 0
        is_odd = (self.classes & COMPOSES) != 0
        is_odd[1:] |= is_mark[1:] & is_mark[:-1]
        return ~self._at(np.flatnonzero(is_odd))

    def _at(self, indices: np.ndarray) -> np.ndarray:
        found = np.zeros(len(self.starts), bool)
        found[np.searchsorted(self.starts, indices, side="right") - 1] = True
        return found


def join_lines(texts: list[str]) -> str:
    """Returns texts with a line feed after each; line feeds within them become spaces."""
    text = "\n".join([*texts, ""])
    if text.count("\n") != len(texts):
        text = "\n".join([*(each.replace("\n", " ") for each in texts), ""])
    return text


def read_lines(texts: list[str], scripts: frozenset[str]) -> Lines:
    """Returns texts as a block; line feeds within them become spaces."""
    text = join_lines(texts)
    codes = code_points(text)
    ends = np.flatnonzero(codes == _FEED)
    starts = np.concatenate([np.zeros(1, np.int64), ends + 1])[:-1]
    classes = np.take(classes_of(scripts), codes)
    return Lines(text, codes, classes, starts, int(np.bitwise_or.reduce(classes)), {})


def normalize_lines(lines: Lines, scripts: frozenset[str]) -> Lines:
    """Returns the block with what `data.normalization.normalize` makes of each line."""
    text = f"\n{lines.text}"
    if lines.present & CHANGED or any(odd in text for odd in ("  ", "\n ", " \n")):
        codes = mapping(normalized)[lines.codes]
        texts = to_text(codes[codes != NOTHING]).split("\n")[:-1]
        lines = read_lines([" ".join(text.split()) for text in texts], scripts)
    lines = _without_invisible_lines(lines, scripts)
    if (is_settled := lines.is_settled()).all():
        return lines
    texts, rows = lines.split(), np.flatnonzero(~is_settled)
    # NFC of a block is NFC of its lines: nothing composes with a line feed or moves past it.
    block = unicodedata.normalize("NFC", "\n".join([texts[row] for row in rows]))
    for row, text in zip(rows, block.split("\n"), strict=True):
        texts[row] = text
    return read_lines(texts, scripts)


def _without_invisible_lines(lines: Lines, scripts: frozenset[str]) -> Lines:
    """Returns the block with lines empty of which nothing can be seen."""
    rows = np.flatnonzero(lines.has(HIDDEN))
    if not len(rows):
        return lines
    texts = lines.split()
    invisible = [row for row in rows if is_invisible(texts[row])]
    for row in invisible:
        texts[row] = ""
    return read_lines(texts, scripts) if invisible else lines
