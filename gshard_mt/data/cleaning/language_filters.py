"""Filters for sides in the wrong script or language, and for swapped sides."""
# SPDX-License-Identifier: Apache-2.0

import functools

import numpy as np

from gshard_mt.data.cleaning.characters import LATIN, LETTER, OWN
from gshard_mt.data.cleaning.confusable_languages import KNOWN, label_of, with_confusable
from gshard_mt.data.cleaning.english import is_surely_english
from gshard_mt.data.cleaning.identification import MIN_LETTERS, best_label, contradictions
from gshard_mt.data.cleaning.lines import Lines
from gshard_mt.data.cleaning.pairs import PairBlock, Side
from gshard_mt.errors import DataError
from gshard_mt.languages import base_language, scripts_of


def are_swapped(pairs: PairBlock, rows: np.ndarray) -> np.ndarray:
    """Tells for each row whether the source is English and the English side the source language.

    Decided by script if the language isn't written in Latin, otherwise by identification. For a
    language that the model doesn't know, any but English counts as the source language.
    """
    scripts = scripts_of(pairs.language)
    if scripts and "Latn" not in scripts:
        source, english = pairs.source.word_lines, pairs.english.word_lines
        return (_has_half(LATIN, source) & _has_half(OWN, english))[rows]
    source, _ = _found(pairs, rows)
    label = label_of(base_language(pairs.language))
    own = with_confusable(label) if label else KNOWN - {"en"}
    # If the source is certainly English, a guess at the other side is enough.
    words = pairs.english.words
    return np.array([source[row] == "en" and best_label(words[row]) in own for row in rows], bool)


def is_other_script(pairs: PairBlock, rows: np.ndarray) -> np.ndarray:
    """Tells for each row whether a side has too few letters in the scripts of its language."""
    is_other = ~_is_in(LATIN, pairs.english.word_lines)
    if scripts := scripts_of(pairs.language):
        lines = pairs.source.word_lines
        is_other |= ~_is_in(OWN, lines)
        # Names may be in Latin, but not much in a third script: Japanese with Han isn't Chinese.
        num_third = lines.weigh(LETTER) - lines.weigh(OWN)
        num_third -= 0 if "Latn" in scripts else lines.weigh(LATIN)
        is_other |= 3 * num_third > lines.weigh(OWN)
    return is_other[rows]


def is_other_language(pairs: PairBlock, rows: np.ndarray) -> np.ndarray:
    """Tells for each row whether a side is certainly in another language than it should be."""
    source, english = _found(pairs, rows)
    return np.array([bool(source[row] or english[row]) for row in rows], bool)


def _is_in(kind: int, lines: Lines) -> np.ndarray:
    """Tells whether a fourth of the letters are of a class, as they are where there is none.

    Not half: names make up most of many a short line, as of "设置 UniFi Protect".
    """
    return 4 * lines.weigh(kind) >= lines.weigh(LETTER)


def _has_half(kind: int, lines: Lines) -> np.ndarray:
    return 2 * lines.weigh(kind) > lines.weigh(LETTER)


def _found(pairs: PairBlock, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the other language of each side; computed once, for the rows of the first call."""
    if not pairs.found:
        language, lines = pairs.language, pairs.source.word_lines
        is_own = _is_in(OWN, lines) if scripts_of(language) else np.ones(len(lines.starts), bool)
        is_long = lines.weigh(LETTER) >= MIN_LETTERS
        source = _ask(pairs.source, rows[(is_long & is_own)[rows]], language, _rivals(language))
        any_other = frozenset(KNOWN)
        source += _ask(pairs.source, rows[(is_long & ~is_own)[rows]], language, any_other)

        lines = pairs.english.word_lines
        is_own = _is_in(LATIN, lines)
        is_long = lines.weigh(LETTER) >= MIN_LETTERS
        doubtful = rows[(is_long & is_own)[rows]]
        # Common words decide as well as the model would.
        words = pairs.english.words
        doubtful = np.array([row for row in doubtful if not is_surely_english(words[row])], int)
        english = _ask(pairs.english, doubtful, "en", _rivals("en"))
        english += _ask(pairs.english, rows[(is_long & ~is_own)[rows]], "en", any_other)
        pairs.found.update(source=source, english=english)
    return pairs.found["source"], pairs.found["english"]


def _ask(side: Side, rows: np.ndarray, language: str, rivals: frozenset[str]) -> np.ndarray:
    """Returns the rival label of each text in rows; "" for other rows and if unsure."""
    found = np.full(len(side.words), "", object)
    if rivals and len(rows):  # no rivals: only confusable languages use the script
        letters = side.word_lines.weigh(LETTER)[rows].tolist()
        words = [side.words[row] for row in rows]
        found[rows] = contradictions(words, letters, base_language(language), rivals)
    return found


@functools.cache
def _rivals(language: str) -> frozenset[str]:
    """Returns the labels that a text in the language's scripts may have if it is in another.

    These are the model's languages that share a script with it and aren't confused with it. If the
    model doesn't know the language, only English is a rival: the model takes unknown languages for
    others, but hardly ever for English.
    """
    scripts, label = scripts_of(language), label_of(base_language(language))
    candidates = KNOWN - with_confusable(label) if label else {"en"}
    return frozenset(
        each
        for each in candidates
        if not scripts or not scripts.isdisjoint(_scripts_of_label(each))
    )


def _scripts_of_label(label: str) -> frozenset[str]:
    try:
        scripts = scripts_of(label)
    except DataError:  # a code of Wikipedia that is no longer in ISO 639
        scripts = frozenset()
    # Languages unknown to CLDR are written in one of these.
    return scripts or frozenset({"Latn", "Deva", "Arab", "Cyrl"})
