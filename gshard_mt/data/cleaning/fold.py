"""Fold: forms of a sentence that ignore case, spaces and punctuation, or digits."""
# SPDX-License-Identifier: Apache-2.0

import functools
import unicodedata

import numpy as np
import xxhash

from gshard_mt.data.cleaning.characters import (
    MARK,
    NOTHING,
    code_points,
    composing,
    mapping,
    to_text,
)
from gshard_mt.data.cleaning.lines import Lines, join_lines, read_lines

_BY_HAND = "\ue000"  # in the table: fold the line as text (folding doesn't change private use)


def fold(text: str) -> str:
    """Returns the text in NFKC, casefolded, without spaces and punctuation.

    Held-out sets treat two texts as equal if they fold to the same form. The text itself is
    returned if nothing would be left.
    """
    return _fold(text) or text


def fold_all(texts: list[str]) -> list[str]:
    """Returns `fold` of each text."""
    return fold_lines(read_lines(texts, frozenset()), texts)


def fold_lines(lines: Lines, texts: list[str]) -> list[str]:
    """Returns `fold` of each line; `texts` are the lines."""
    mapped = np.take(_folds(), lines.codes)
    by_hand = mapped == ord(_BY_HAND)
    is_mark = (lines.classes & MARK) != 0
    by_hand[1:] |= is_mark[1:] & is_mark[:-1]  # NFKC may reorder them
    folded = _split(mapped)
    rows = _rows_of(by_hand, lines.codes)
    if len(rows):
        # NFKC of a block is NFKC of its lines: nothing composes with a line feed or moves past it.
        block = unicodedata.normalize("NFKC", join_lines([texts[row] for row in rows])).casefold()
        for row, form in zip(rows, _split(np.take(_counts(), code_points(block))), strict=True):
            folded[row] = form
    return [new or text for new, text in zip(folded, texts, strict=True)]


def near_forms(folded: list[str]) -> list[str]:
    """Returns folded texts with every digit replaced by 0 and without symbols.

    Near duplicates share this form. The same object is returned if nothing changes or nothing
    would be left. Marks are kept: they are vowels in Indic scripts.
    """
    codes = code_points(join_lines(folded))
    mapped = np.take(_near(), codes)
    rows = _rows_of(mapped != codes, codes)
    near = [each.replace("\n", " ") for each in folded]  # the same object if there is none
    if len(rows):
        changed = _split(np.take(_near(), code_points(join_lines([folded[row] for row in rows]))))
        for row, form in zip(rows, changed, strict=True):
            near[row] = form or folded[row]
    return near


def hash_texts(texts: list[str]) -> np.ndarray:
    """Returns the 64-bit XXH3 of each text in UTF-8, uint64: the same on every machine."""
    digest = xxhash.xxh3_64_intdigest
    contents = "\n".join(texts).encode("utf-8", "surrogatepass").split(b"\n")
    if len(contents) != len(texts):  # no texts, or one with a line feed
        contents = [text.encode("utf-8", "surrogatepass") for text in texts]
    return np.array([digest(content) for content in contents], np.uint64)


def _fold(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text.replace("\n", " ")).casefold()
    return "".join(filter(_does_count, folded))


def _does_count(character: str) -> bool:
    return unicodedata.category(character)[0] not in "PZ"


def _rows_of(is_there: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Returns the numbers of the lines that have a character for which `is_there`."""
    indices = np.flatnonzero(is_there)
    if not len(indices):
        return indices
    return np.unique(np.searchsorted(np.flatnonzero(codes == ord("\n")), indices))


def _split(codes: np.ndarray) -> list[str]:
    return to_text(codes[codes != NOTHING]).split("\n")[:-1]


@functools.cache
def _folds() -> np.ndarray:
    """Returns what each code point is folded to.

    Nearly all fold independently, to one character or none. The lines of the others, such as ß, ½
    and marks that compose, are folded as text.
    """
    composes = composing()

    def fold_alone(character: str) -> str:
        if character == _BY_HAND or character in composes:
            return _BY_HAND
        folded = _fold(character)
        return _BY_HAND if len(folded) > 1 or folded in composes else folded

    return mapping(fold_alone)


@functools.cache
def _counts() -> np.ndarray:
    return mapping(lambda character: character if _does_count(character) else "")


@functools.cache
def _near() -> np.ndarray:
    def near(character: str) -> str:
        if character.isdecimal():
            return "0"
        return "" if unicodedata.category(character)[0] == "S" else character

    return mapping(near)
