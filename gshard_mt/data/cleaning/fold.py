"""Fold: forms of a sentence that ignore case, spaces and punctuation, or digits."""
# SPDX-License-Identifier: Apache-2.0

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


def fold_all(texts: list[str]) -> list[str]:
    """Returns each text in NFKC, casefolded, without spaces and punctuation.

    Held-out sets treat two texts as equal if they fold to the same form. The text itself is
    returned if nothing would be left.
    """
    return fold_lines(read_lines(texts, frozenset()), texts)


def fold_lines(lines: Lines, texts: list[str]) -> list[str]:
    """Returns what `fold_all` does; `texts` are the lines."""
    mapped = np.take(mapping(_fold_alone), lines.codes)
    by_hand = mapped == ord(_BY_HAND)
    if lines.present & MARK:
        is_mark = (lines.classes & MARK) != 0
        by_hand[1:] |= is_mark[1:] & is_mark[:-1]  # NFKC may reorder them
    folded = _split(mapped)
    rows = _rows_of(by_hand, lines.codes)
    if len(rows):
        # NFKC of a block is NFKC of its lines: nothing composes with a line feed or moves past it.
        block = unicodedata.normalize("NFKC", join_lines([texts[row] for row in rows])).casefold()
        counted = np.take(mapping(_counted), code_points(block))
        for row, form in zip(rows, _split(counted), strict=True):
            folded[row] = form
    return [new or text for new, text in zip(folded, texts, strict=True)]


def near_forms(folded: list[str]) -> list[str]:
    """Returns folded texts with every digit replaced by 0 and without symbols.

    Near duplicates share this form. The same object is returned if nothing changes or nothing
    would be left. Marks are kept: they are vowels in Indic scripts.
    """
    codes = code_points(join_lines(folded))
    near = [each.replace("\n", " ") for each in folded]  # the same object if there is none
    rows = _rows_of(np.take(mapping(_near), codes) != codes, codes)
    if len(rows):
        changed = code_points(join_lines([near[row] for row in rows]))
        forms = _split(np.take(mapping(_near), changed))
        for row, form in zip(rows, forms, strict=True):
            near[row] = form or folded[row]
    return near


def hash_texts(texts: list[str]) -> np.ndarray:
    """Returns the 64-bit XXH3 of each text in UTF-8, uint64: the same on every machine."""
    digest = xxhash.xxh3_64_intdigest
    contents = "\n".join(texts).encode("utf-8", "surrogatepass").split(b"\n")
    if len(contents) != len(texts):  # no texts, or one with a line feed
        contents = [text.encode("utf-8", "surrogatepass") for text in texts]
    return np.array([digest(content) for content in contents], np.uint64)


def _rows_of(is_there: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Returns the numbers of the lines that have a character for which `is_there`."""
    indices = np.flatnonzero(is_there)
    if not len(indices):
        return indices
    return np.unique(np.searchsorted(np.flatnonzero(codes == ord("\n")), indices))


def _split(codes: np.ndarray) -> list[str]:
    return to_text(codes[codes != NOTHING]).split("\n")[:-1]


def _fold_alone(character: str) -> str:
    """Returns what a character is folded to: another, nothing, or _BY_HAND.

    Nearly all fold independently. The lines of the others, such as ß, ½ and marks that compose,
    are folded as text.
    """
    if character == _BY_HAND or character in composing():
        return _BY_HAND
    folded = "".join(map(_counted, unicodedata.normalize("NFKC", character).casefold()))
    return _BY_HAND if len(folded) > 1 or folded in composing() else folded


def _counted(character: str) -> str:
    return "" if unicodedata.category(character)[0] in "PZ" else character


def _near(character: str) -> str:
    if character.isdecimal():
        return "0"
    return "" if unicodedata.category(character)[0] == "S" else character
