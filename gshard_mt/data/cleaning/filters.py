"""Filters: one function for each reason to drop a pair, in a table in order of precedence."""
# SPDX-License-Identifier: Apache-2.0

import functools
from collections.abc import Callable

import numpy as np

from gshard_mt.data.cleaning.characters import MARKUP
from gshard_mt.data.cleaning.language_filters import are_swapped, is_other_language, is_other_script
from gshard_mt.data.cleaning.markup import has_html
from gshard_mt.data.cleaning.numerals import do_numbers_differ
from gshard_mt.data.cleaning.pairs import PairBlock
from gshard_mt.data.cleaning.placeholders import comparable_placeholders


def _is_empty(pairs: PairBlock, rows: np.ndarray) -> np.ndarray:
    return np.array(
        [not pairs.source.texts[row] or not pairs.english.texts[row] for row in rows], bool
    )


def _is_copied(pairs: PairBlock, rows: np.ndarray) -> np.ndarray:
    source, english = pairs.source.folded, pairs.english.folded
    return np.array([source[row] == english[row] for row in rows], bool)


def _have_other_placeholders(pairs: PairBlock, rows: np.ndarray) -> np.ndarray:
    def differ(source: str, english: str) -> bool:
        return comparable_placeholders(source) != comparable_placeholders(english)

    return _each(differ, pairs, rows, _has_markup(pairs))


def _have_other_numbers(pairs: PairBlock, rows: np.ndarray) -> np.ndarray:
    both = zip(pairs.source.lines.numbers(), pairs.english.lines.numbers(), strict=True)
    # Nearly all pairs have the same numbers on both sides, or none on one.
    can_be = np.array([bool(a and b and a != b) for a, b in both], bool)
    differ = functools.partial(do_numbers_differ, language=pairs.language)
    return _each(differ, pairs, rows, can_be)


Filter = Callable[[PairBlock, np.ndarray], np.ndarray]

# Each filter tells for the pairs in `rows` whether to drop them. The names, except the first two,
# are the keys of `config.data.cleaning` that switch the filters. The most specific reason comes
# first: swapped columns, for example, are also in another script and language.
FILTERS: dict[str, Filter] = {
    "too_long": lambda pairs, rows: pairs.is_long[rows],
    "empty": _is_empty,
    "control_characters": lambda pairs, rows: pairs.is_broken[rows],
    "copied": _is_copied,
    "html": lambda pairs, rows: _each(has_html, pairs, rows, _has_markup(pairs)),
    "placeholders": _have_other_placeholders,
    "numbers": _have_other_numbers,
    "swapped": are_swapped,
    "script": is_other_script,
    "language": is_other_language,
}


def _each(
    is_bad: Callable[[str, str], bool], pairs: PairBlock, rows: np.ndarray, can_be: np.ndarray
) -> np.ndarray:
    """Returns `is_bad` for each of `rows`; called only where `can_be`, False elsewhere."""
    found = can_be[rows]
    for index in np.flatnonzero(found):
        row = rows[index]
        found[index] = is_bad(pairs.source.texts[row], pairs.english.texts[row])
    return found


def _has_markup(pairs: PairBlock) -> np.ndarray:
    return pairs.source.lines.has(MARKUP) | pairs.english.lines.has(MARKUP)
