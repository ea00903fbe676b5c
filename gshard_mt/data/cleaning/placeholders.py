"""Placeholders: what a translator copies as it stands; how many words there are beside."""
# SPDX-License-Identifier: Apache-2.0

import functools
import re

import numpy as np

from gshard_mt.data.cleaning.characters import NUM_CODES, assigned, code_points
from gshard_mt.data.cleaning.lines import join_lines

MIN_WORDS = 2  # of a string that tests translation

PLACEHOLDER = re.compile(
    r"\[%[^\]]*%\]"  # [%key:common::x%]
    r"|\$t\([^)]*\)"  # $t(key)
    r"|\$?(?<!\{)\{++[^{}]*+\}++"  # {entity} {{ value }} ${name}; a thousand { are read once
    r"|%\([^)]*\)[a-zA-Z]"  # %(name)s
    r"|%(?:\d+\$)?[-+#0]*\d*(?:\.\d+)?[sdifgxru@](?![a-zA-Z])"  # %s %1$s %.2f
    r"|</?[A-Za-z][^<>]*>|&[a-z]+;"  # <b> &nbsp;
    r"|https?://\S+"
)


def placeholders(text: str) -> frozenset[str]:
    """Returns what a translator copies as it stands: `{entity}`, `%(name)s`, tags, addresses."""
    return frozenset(PLACEHOLDER.findall(text))


def num_words_all(texts: list[str]) -> np.ndarray:
    """Returns of each text how many words of letters it has, int64."""
    codes = code_points(join_lines(texts))
    is_space, is_letter = _spaces_and_letters()
    space_before = np.cumsum(np.take(is_space, codes))  # the number of the word, in a way
    letters = np.flatnonzero(np.take(is_letter, codes))
    word = space_before[letters]
    firsts = letters[np.flatnonzero(np.diff(word, prepend=-1))]
    ends = np.flatnonzero(codes == ord("\n"))
    return np.bincount(np.searchsorted(ends, firsts), minlength=len(texts))


def is_testable_all(texts: list[str], num_words: np.ndarray) -> np.ndarray:
    """Tells of each text whether it is a test of translation: words, and nothing just to copy."""
    found = num_words >= MIN_WORDS
    for row in np.flatnonzero(found):
        text = texts[row]
        # A placeholder has one of these; the search for them is quick, that for it is not.
        if any(mark in text for mark in _MARKS) and PLACEHOLDER.search(text):
            found[row] = False
    return found


_MARKS = ("{", "%", "<", "&", "://", "$t(")


@functools.cache
def _spaces_and_letters() -> tuple[np.ndarray, np.ndarray]:
    tables = np.zeros((2, NUM_CODES), bool)
    for table, is_it in zip(tables, (str.isspace, str.isalpha), strict=True):
        table[code_points("".join(filter(is_it, assigned())))] = True
    return tables[0], tables[1]
