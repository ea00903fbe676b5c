"""Placeholders: finds what a translator copies unchanged, and counts words."""
# SPDX-License-Identifier: Apache-2.0

import functools
import re

import numpy as np

from gshard_mt.data.cleaning.addresses import EMAIL, HANDLE, HOST, URL
from gshard_mt.data.cleaning.characters import MARKUP, NUM_CODES, assigned, code_points
from gshard_mt.data.cleaning.icu import without_choices
from gshard_mt.data.cleaning.lines import join_lines, read_lines
from gshard_mt.data.cleaning.markup import is_html

MIN_WORDS = 2  # of a string that can test translation

# A number before `%` makes it a percentage, with or without a suffix: `20%-i`, `50 %-s`.
_PRINTF = (
    r"(?<![\d%])%(?!-(?<=\d\s%-))"
    r"(?:\d+\$)?[-+#0'I]*(?:\d+(?![iru]))?(?:\.\d+)?(?:hh?|ll?|[qjzt])?[sdifgxru@](?![a-zA-Z])"
)
PLACEHOLDER = re.compile(
    # Where it can't start, nothing else is tried.
    r"(?=[\[$\{%<&h])(?:"
    r"\[%[^\]]*%\]"  # [%key:common::x%]
    r"|\$t\([^)]*\)"  # $t(key)
    r"|\$?(?<!\{)\{++[^{}]*+\}++"  # {entity} {{ value }} ${name}; possessive: linear in a run of {
    r"|%\([^)]*\)[a-zA-Z]"  # %(name)s
    r"|(?<!%)%[-+#0']*\d*<PRI\w+>"  # %<PRIu64>
    rf"|{_PRINTF}"  # %s %1$s %.2f
    r"|</?(?!https?://|[^\s<>@]*@)[A-Za-z][^<>]*>|&[a-z]+;"  # <b> &nbsp;
    rf"|{URL})|{EMAIL}"
)
_MARK = re.compile(r"[${%<&@]|://")  # every placeholder has one; much faster to find
_OTHER_ADDRESS = re.compile(f"{HOST}|{HANDLE}")
_ADDRESS_MARK = re.compile(r"@|\.[A-Za-z0-9-]")  # the same for these
_NAME = re.compile(r"(\$?\{+)\s*([^{},]*?)\s*(?:,[^{}]*)?(\}+)")


def placeholders(text: str) -> frozenset[str]:
    """Returns what a translator copies unchanged: `{entity}`, `%(name)s`, tags, addresses."""
    return frozenset(_find(text))


def comparable_placeholders(text: str) -> frozenset[str]:
    """Returns the placeholders without what a translator may change in them.

    `%1$s` and `%s` are the same, `{n}` and `{n, plural, one {# file} other {# files}}`, an address
    with and without a slash at its end. HTML is left out.
    """
    found = _find(without_choices(text))
    return frozenset(_comparable(each) for each in found if not is_html(each))


def without_placeholders(text: str) -> str:
    """Returns the text with a space for each placeholder and each address of any kind."""
    if _MARK.search(text):
        text = PLACEHOLDER.sub(" ", without_choices(text))
    return _OTHER_ADDRESS.sub(" ", text) if _ADDRESS_MARK.search(text) else text


def _find(text: str) -> list[str]:
    return PLACEHOLDER.findall(text) if _MARK.search(text) else []


def _comparable(found: str) -> str:
    if found.startswith("http"):
        return found.rstrip("/")
    if found.startswith("%") and found[1] != "(":
        # Where there is one, `>` ends the name of a macro: %<PRIu64>.
        kind = found[found.find("<") :] if found.endswith(">") else found[-1]
        return f"%{'d' if kind == 'i' else kind}"
    if match := _NAME.fullmatch(found):
        return "".join(match.groups())
    return found.lower() if "@" in found and not found.startswith(("[", "<", "$")) else found


def num_words_all(texts: list[str]) -> np.ndarray:
    """Returns the number of words with letters in each text, int64."""
    codes = code_points(join_lines(texts))
    if not texts:
        return np.zeros(0, np.int64)
    is_space, is_letter = _spaces_and_letters()
    spaces = np.flatnonzero(np.take(is_space, codes))  # including line feeds
    words = np.concatenate([np.zeros(1, np.int64), spaces[:-1] + 1])
    is_word = np.logical_or.reduceat(np.take(is_letter, codes), words)
    is_last = codes[spaces] == ord("\n")
    firsts = np.concatenate([np.zeros(1, np.int64), np.flatnonzero(is_last)[:-1] + 1])
    return np.add.reduceat(is_word, firsts, dtype=np.int64)


def is_testable_all(texts: list[str], num_words: np.ndarray) -> np.ndarray:
    """Tells for each text whether it can test translation: enough words and no placeholder."""
    found = num_words >= MIN_WORDS
    # Every placeholder has MARKUP, which is faster to find.
    for row in np.flatnonzero(found & read_lines(texts, frozenset()).has(MARKUP)):
        found[row] = not (_MARK.search(texts[row]) and PLACEHOLDER.search(texts[row]))
    return found


@functools.cache
def _spaces_and_letters() -> tuple[np.ndarray, np.ndarray]:
    tables = np.zeros((2, NUM_CODES), bool)
    for table, is_it in zip(tables, (str.isspace, str.isalpha), strict=True):
        table[code_points("".join(filter(is_it, assigned())))] = True
    return tables[0], tables[1]
