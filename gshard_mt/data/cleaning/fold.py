"""Fold: what is left of a sentence where case, spaces and punctuation, or digits, don't count."""
# SPDX-License-Identifier: Apache-2.0

import functools
import unicodedata

import numpy as np
import xxhash

from gshard_mt.data.cleaning.characters import (
    NOTHING,
    assigned,
    code_points,
    composing,
    mapping,
    to_text,
)
from gshard_mt.data.cleaning.lines import join_lines

_BY_HAND = "\ue000"  # in the table: the line is folded alone, as text (private use isn't folded)


def fold(text: str) -> str:
    """Returns the text's overlap form; two texts with one form are one to the held-out sets.

    NFKC, casefolded, without spaces and punctuation; the text itself where nothing is left.
    """
    return _fold(text) or text


def fold_all(texts: list[str]) -> list[str]:
    """Returns `fold` of each text, all at once."""
    codes = code_points(join_lines(texts))
    table, is_mark = _folds()
    mapped = np.take(table, codes)
    marks = np.take(is_mark, codes)
    by_hand = mapped == ord(_BY_HAND)
    by_hand[1:] |= marks[1:] & marks[:-1]  # may change places
    folded = _split(mapped)
    if by_hand.any():
        ends = np.flatnonzero(codes == ord("\n"))
        for row in set(np.searchsorted(ends, np.flatnonzero(by_hand)).tolist()):
            folded[row] = _fold(texts[row])
    return [new or text for new, text in zip(folded, texts, strict=True)]


def near_forms(folded: list[str]) -> list[str]:
    """Returns what near-duplicates share: folded texts with every digit 0 and without symbols.

    The folded text itself where nothing is left. Marks stay: they are vowels in India.
    """
    near = _split(np.take(_near(), code_points(join_lines(folded))))
    return [new or text for new, text in zip(near, folded, strict=True)]


def hash_texts(texts: list[str]) -> np.ndarray:
    """Returns XXH3's 64 bits of each text in UTF-8, uint64: the same on every machine."""
    digest = xxhash.xxh3_64_intdigest
    hashes = [digest(text.encode("utf-8", "surrogatepass")) for text in texts]
    return np.array(hashes, np.uint64)


def _fold(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text.replace("\n", " ")).casefold()
    return "".join([each for each in folded if unicodedata.category(each)[0] not in "PZ"])


def _split(codes: np.ndarray) -> list[str]:
    return to_text(codes[codes != NOTHING]).split("\n")[:-1]


@functools.cache
def _folds() -> tuple[np.ndarray, np.ndarray]:
    """Returns what each code point is folded to, and which of them NFKC may move.

    Nearly all fold alone, to one character or none. Those that don't, ß or ½ or a mark that
    composes, send their line to `_fold`.
    """
    composes = composing()

    def fold_alone(character: str) -> str:
        if character == _BY_HAND or character in composes:
            return _BY_HAND
        folded = _fold(character)
        return _BY_HAND if len(folded) > 1 or folded in composes else folded

    table = mapping(fold_alone)
    is_mark = np.zeros(len(table), bool)
    is_mark[code_points("".join(filter(unicodedata.combining, assigned())))] = True
    return table, is_mark


@functools.cache
def _near() -> np.ndarray:
    def near(character: str) -> str:
        if character.isdecimal():
            return "0"
        return "" if unicodedata.category(character)[0] == "S" else character

    return mapping(near)
