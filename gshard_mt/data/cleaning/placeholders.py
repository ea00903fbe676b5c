"""Placeholders: what a translator copies as it stands; how many words there are beside."""
# SPDX-License-Identifier: Apache-2.0

import re

import numpy as np

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


def num_words(text: str) -> int:
    """Returns how many words of letters the text has."""
    return sum(any(character.isalpha() for character in word) for word in text.split())


def num_words_all(texts: list[str]) -> np.ndarray:
    """Returns `num_words` of each text, int64."""
    # Most words are letters alone, and C says so.
    return np.array(
        [
            sum(word.isalpha() or any(map(str.isalpha, word)) for word in text.split())
            for text in texts
        ],
        np.int64,
    )


def is_testable(english: str) -> bool:
    """Tells whether a string is a test of translation: words, and nothing a model just copies."""
    return num_words(english) >= MIN_WORDS and not placeholders(english)


def is_testable_all(texts: list[str], num_words: np.ndarray) -> np.ndarray:
    """Tells `is_testable` of each text, given its number of words."""
    found = num_words >= MIN_WORDS
    for row in np.flatnonzero(found):
        text = texts[row]
        # A placeholder has one of these; the search for them is quick, that for it is not.
        if any(mark in text for mark in _MARKS) and PLACEHOLDER.search(text):
            found[row] = False
    return found


_MARKS = ("{", "%", "<", "&", "://", "$t(")
