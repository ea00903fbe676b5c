"""Fold: what is left of a sentence where case, spaces and punctuation, or digits, don't count."""
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

_BY_HAND = "\ue000"  # in the table: the line is folded alone, as text (private use isn't folded)


def fold(text: str) -> str:
    """Returns the text's overlap form; two texts with one form are one to the held-out sets.

    NFKC, casefolded, without spaces and punctuation; the text itself where nothing is left.
    """
    return _fold(text) or text


def fold_all(texts: list[str]) -> list[str]:
    """Returns `fold` of each text, all at once."""
    return fold_lines(read_lines(texts, frozenset()), texts)


def fold_lines(lines: Lines, texts: list[str]) -> list[str]:
    """Returns `fold` of each line; `texts` are the lines."""
    mapped = np.take(_folds(), lines.codes)
    by_hand = mapped == ord(_BY_HAND)
    is_mark = (lines.classes & MARK) != 0
    by_hand[1:] |= is_mark[1:] & is_mark[:-1]  # may change places
    folded = _split(mapped)
    rows = _rows_of(by_hand, lines.codes)
    if len(rows):
        # NFKC of a block is NFKC of its lines: nothing composes with a line feed or crosses it.
        block = unicodedata.normalize("NFKC", join_lines([texts[row] for row in rows])).casefold()
        for row, form in zip(rows, _split(np.take(_counts(), code_points(block))), strict=True):
            folded[row] = form
    return [new or text for new, text in zip(folded, texts, strict=True)]


def near_forms(folded: list[str]) -> list[str]:
    """Returns what near-duplicates share: folded texts with every digit 0 and without symbols.

    The folded text itself, the same object, where nothing changes or nothing would be left. Marks
    stay: they are vowels in India.
    """
    codes = code_points(join_lines(folded))
    mapped = np.take(_near(), codes)
    rows = _rows_of(mapped != codes, codes)
    near = [each.replace("\n", " ") for each in folded]  # the same object where there is none
    if len(rows):
        changed = _split(np.take(_near(), code_points(join_lines([folded[row] for row in rows]))))
        for row, form in zip(rows, changed, strict=True):
            near[row] = form or folded[row]
    return near


def hash_texts(texts: list[str]) -> np.ndarray:
    """Returns XXH3's 64 bits of each text in UTF-8, uint64: the same on every machine."""
    digest = xxhash.xxh3_64_intdigest
    contents = "\n".join(texts).encode("utf-8", "surrogatepass").split(b"\n")
    if len(contents) != len(texts):  # there is none, or a line feed in one
        contents = [text.encode("utf-8", "surrogatepass") for text in texts]
    return np.array([digest(content) for content in contents], np.uint64)


def _fold(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text.replace("\n", " ")).casefold()
    return "".join(filter(_does_count, folded))


def _does_count(character: str) -> bool:
    return unicodedata.category(character)[0] not in "PZ"


def _rows_of(is_there: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Returns the numbers of the lines with a character that `is_there`."""
    places = np.flatnonzero(is_there)
    if not len(places):
        return places
    return np.unique(np.searchsorted(np.flatnonzero(codes == ord("\n")), places))


def _split(codes: np.ndarray) -> list[str]:
    return to_text(codes[codes != NOTHING]).split("\n")[:-1]


@functools.cache
def _folds() -> np.ndarray:
    """Returns what each code point is folded to.

    Nearly all fold alone, to one character or none. Those that don't, ß or ½ or a mark that
    composes, send their line to `_fold`.
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
