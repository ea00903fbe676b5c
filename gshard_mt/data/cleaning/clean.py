"""Clean: normalizes a block of pairs of one language and finds the reason to drop each."""
# SPDX-License-Identifier: Apache-2.0

from typing import NamedTuple

import numpy as np

from gshard_mt.config.records import CleaningConfig
from gshard_mt.data.cleaning.calibration import Calibration, uncalibrated
from gshard_mt.data.cleaning.characters import BROKEN
from gshard_mt.data.cleaning.filters import FILTERS
from gshard_mt.data.cleaning.lines import normalize_lines, read_lines
from gshard_mt.data.cleaning.pairs import PairBlock, make_side

SHORT_SUBWORDS = 10  # sentences up to this length may have any ratio
_MAX_DEVIATIONS = 4  # of a ratio of lengths from the usual one

# Why a pair is not used for training, in the order in which the reasons are checked.
REASONS: tuple[str, ...] = tuple(FILTERS)


class CleaningResult(NamedTuple):
    """A block of pairs, including dropped ones, and the number of the reason to drop each."""

    source: list[str]  # normalized; too long text is first cut to `max_characters`
    english: list[str]
    reason: np.ndarray  # uint8; 0: kept; n: dropped for REASONS[n - 1], the first that applies
    folded: tuple[list[str], list[str]]  # both sides folded


def clean(
    source: list[str],
    english: list[str],
    language: str,
    config: CleaningConfig,
    calibration: Calibration | None = None,
) -> CleaningResult:
    """Returns a block of pairs normalized, with the reason to drop each.

    The result for a pair depends on that pair and the calibration alone; a block of a few thousand
    pairs is much faster than pairs one by one. `language` is a code or a locale.
    """
    is_long = np.zeros(len(source), bool)
    if most := config.max_characters:
        is_long |= np.array([len(text) > most for text in source], bool)
        is_long |= np.array([len(text) > most for text in english], bool)
        # Length is checked first, so that a long line costs no more than a short one.
        if is_long.any():
            source, english = _cut(source, is_long, most), _cut(english, is_long, most)
    calibration = calibration or uncalibrated(language)
    scripts = calibration.scripts
    raw = read_lines(source, scripts), read_lines(english, scripts)
    pairs = PairBlock(
        source=make_side(normalize_lines(raw[0], scripts), scripts),
        english=make_side(normalize_lines(raw[1], scripts), scripts),
        language=language,
        calibration=calibration,
        is_long=is_long,
        is_broken=raw[0].has(BROKEN) | raw[1].has(BROKEN),
    )
    reason = np.zeros(len(source), np.uint8)
    for number, (name, is_bad) in enumerate(FILTERS.items(), 1):
        if getattr(config, name, True):  # empty and too_long can't be switched off
            rows = np.flatnonzero(reason == 0)
            reason[rows[is_bad(pairs, rows)]] = number
    folded = pairs.source.folded, pairs.english.folded
    return CleaningResult(pairs.source.texts, pairs.english.texts, reason, folded)


def normalize_all(texts: list[str]) -> list[str]:
    """Returns what `data.normalization.normalize` makes of each text; fast if there are many."""
    none = frozenset()
    return normalize_lines(read_lines(texts, none), none).split()


class UsualRatio(NamedTuple):
    """The subwords that a language's sources have for one of English."""

    median: float = 1.0
    deviation: float = 0.0  # median of the logarithms' absolute deviations from the median's


def usual_ratio(num_source: np.ndarray, num_target: np.ndarray) -> UsualRatio:
    """Returns the usual ratio of the lengths (in subwords) of some pairs, at least one."""
    ratios = np.log((num_source + 1) / (num_target + 1))
    median = np.median(ratios)
    return UsualRatio(float(np.exp(median)), float(np.median(np.abs(ratios - median))))


def is_ratio_above(
    num_source: np.ndarray, num_target: np.ndarray, max_ratio: float, usual: UsualRatio
) -> np.ndarray:
    """Tells which ratios of lengths (in subwords) are more than `max_ratio` times the usual one.

    The same for the inverse. The limit is higher where the ratios of usual pairs vary so much.
    Never true for two short sides, since a single English word may take ten subwords in another
    language, nor if `max_ratio` is 0, which means no limit.
    """
    scaled = num_source / usual.median
    longer, shorter = np.maximum(scaled, num_target), np.minimum(scaled, num_target)
    is_long = np.maximum(num_source, num_target) > SHORT_SUBWORDS
    limit = max(max_ratio, np.exp(_MAX_DEVIATIONS * usual.deviation))
    return (max_ratio > 0) & is_long & (longer > limit * shorter)


def _cut(texts: list[str], is_long: np.ndarray, most: int) -> list[str]:
    return [text[:most] if cut else text for text, cut in zip(texts, is_long, strict=True)]
