"""Filters for sides in the wrong script or language, and for swapped sides."""
# SPDX-License-Identifier: Apache-2.0

import numpy as np

from gshard_mt.data.cleaning.calibration import rivals_in
from gshard_mt.data.cleaning.characters import LATIN, LETTER, OWN
from gshard_mt.data.cleaning.confusable_languages import KNOWN, with_confusable
from gshard_mt.data.cleaning.english import is_surely_english
from gshard_mt.data.cleaning.evidence import EVIDENCE_CHARACTERS, MARGIN
from gshard_mt.data.cleaning.identification import (
    MIN_LETTERS,
    contradictions,
    guess,
)
from gshard_mt.data.cleaning.lines import Lines
from gshard_mt.data.cleaning.pairs import PairBlock, Side

# Text in the corpus's other lines tells English from about this number of letters on.
FEW_LETTERS = 8
_LATIN = frozenset({"Latn"})
_LEAST = 0.9  # probability of another language if the model doesn't know the expected one ...
LEAST_OF_EVIDENCE = 0.5  # ... and where evidence must agree


def are_swapped(pairs: PairBlock, rows: np.ndarray) -> np.ndarray:
    """Tells for each row whether the source is English and the English side the source language.

    Decided by script if the language isn't written in Latin, otherwise by identification. For a
    language that the model doesn't know, any but English counts as the source language.
    """
    scripts = pairs.calibration.scripts
    if scripts and "Latn" not in scripts:
        source, english = pairs.source.word_lines, pairs.english.word_lines
        return (_has_half(LATIN, source) & _has_half(OWN, english))[rows]
    source, _ = _found(pairs, rows)
    own, evidence = pairs.calibration.own or KNOWN - {"en"}, pairs.calibration.evidence
    # If the source is certainly English, a guess at the other side is enough.
    words = pairs.english.words
    is_english = source[rows] == "en"
    found = np.zeros(len(rows), bool)
    labels = guess([words[row] for row in rows[is_english]]).labels
    found[is_english] = [label in own for label in labels]
    if evidence:
        unsure = is_english & ~found
        some = [words[row][:EVIDENCE_CHARACTERS] for row in rows[unsure]]
        found[unsure] = evidence.advantage(some, "en") > MARGIN
    return found


def is_other_script(pairs: PairBlock, rows: np.ndarray) -> np.ndarray:
    """Tells for each row whether a side has too few letters in the scripts of its language."""
    is_other = ~is_in(LATIN, pairs.english.word_lines)
    if scripts := pairs.calibration.scripts:
        lines = pairs.source.word_lines
        is_other |= ~is_in(OWN, lines)
        # Names may be in Latin, but not much in a third script: Japanese with Han isn't Chinese.
        num_third = lines.weigh(LETTER) - lines.weigh(OWN)
        num_third -= 0 if "Latn" in scripts else lines.weigh(LATIN)
        is_other |= 3 * num_third > lines.weigh(OWN)
    return is_other[rows]


def is_other_language(pairs: PairBlock, rows: np.ndarray) -> np.ndarray:
    """Tells for each row whether a side is certainly in another language than it should be."""
    source, english = _found(pairs, rows)
    return np.array([bool(source[row] or english[row]) for row in rows], bool)


def is_in(kind: int, lines: Lines) -> np.ndarray:
    """Tells whether a fourth of the letters are of a class, as they are where there is none.

    Not half: names make up most of many a short line, as of "设置 UniFi Protect".
    """
    return 4 * lines.weigh(kind) >= lines.weigh(LETTER)


def _has_half(kind: int, lines: Lines) -> np.ndarray:
    return 2 * lines.weigh(kind) > lines.weigh(LETTER)


def _found(pairs: PairBlock, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the other language of each side; computed once, for the rows of the first call."""
    if not pairs.found:
        pairs.found.update(source=_of_sources(pairs, rows), english=_of_english(pairs, rows))
    return pairs.found["source"], pairs.found["english"]


def _of_sources(pairs: PairBlock, rows: np.ndarray) -> np.ndarray:
    known, side = pairs.calibration, pairs.source
    letters = side.word_lines.weigh(LETTER)
    is_own = is_in(OWN, side.word_lines) if known.scripts else np.ones(len(letters), bool)
    is_long = letters >= MIN_LETTERS
    least = LEAST_OF_EVIDENCE if known.evidence else _LEAST
    found = _ask(side, rows[(is_long & is_own)[rows]], known.own, known.rivals, least)
    if known.evidence and not known.is_trusted:
        found = _confirmed(pairs, found)
    if known.evidence and "en" in known.rivals:
        is_short = (letters >= FEW_LETTERS) & ~is_long & is_own
        found += _confirmed(pairs, _short_english(side, rows[is_short[rows]], known.own))
    return found + _ask(side, rows[(is_long & ~is_own)[rows]], known.own, frozenset(KNOWN), least)


def _of_english(pairs: PairBlock, rows: np.ndarray) -> np.ndarray:
    side = pairs.english
    is_own = is_in(LATIN, side.word_lines)
    is_long = side.word_lines.weigh(LETTER) >= MIN_LETTERS
    own = with_confusable("en")
    found = _ask(side, rows[(is_long & is_own)[rows]], own, rivals_in(_LATIN, own), _LEAST)
    for row in np.flatnonzero(found != ""):
        if is_surely_english(side.words[row]):  # common words decide as well as the model
            found[row] = ""
    return found + _ask(side, rows[(is_long & ~is_own)[rows]], own, frozenset(KNOWN), _LEAST)


def _ask(
    side: Side, rows: np.ndarray, own: frozenset[str], rivals: frozenset[str], least: float
) -> np.ndarray:
    """Returns the rival label of each text in rows; "" for other rows and if unsure."""
    found = np.full(len(side.words), "", object)
    if rivals and len(rows):  # no rivals: only confusable languages use the script
        letters = side.word_lines.weigh(LETTER)[rows].tolist()
        words = [side.words[row] for row in rows]
        found[rows] = contradictions(words, letters, own, rivals, least)
    return found


def _short_english(side: Side, rows: np.ndarray, own: frozenset[str]) -> np.ndarray:
    """Returns "en" for each text in rows that may be English, "" for others."""
    found = np.full(len(side.words), "", object)
    labels = guess([side.words[row] for row in rows]).labels
    for row, label in zip(rows, labels, strict=True):
        if label not in own or is_surely_english(side.words[row]):
            found[row] = "en"
    return found


def _confirmed(pairs: PairBlock, found: np.ndarray) -> np.ndarray:
    """Returns the labels for which there is evidence, "" for others."""
    known = pairs.calibration
    if known.evidence and len(rows := np.flatnonzero(found != "")):
        lines = [pairs.source.words[row][:EVIDENCE_CHARACTERS] for row in rows]
        limits = np.array(known.limits)[guess(lines).is_confident.astype(int)]
        is_other = known.evidence.is_other(lines, found[rows].tolist(), limits, known.certain)
        found = found.copy()
        found[rows[~is_other]] = ""
    return found
