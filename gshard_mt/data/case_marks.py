"""Case marks: words in capitals written as in other text, between two marks that are words, too."""
# SPDX-License-Identifier: Apache-2.0

import itertools
import re
import unicodedata
from collections.abc import Callable

# Shift out and shift in: normalized text has no control characters.
UPPER, NORMAL = "\x0e", "\x0f"
PIECES = (f"▁{UPPER}", f"▁{NORMAL}")  # in a SentencePiece model
_MARK = re.compile(f" *([{UPPER}{NORMAL}]) *")


def mark_case(line: str, spell: Callable[[str], str] = str.lower) -> str:
    """Returns a normalized line with its words in capitals in another spelling, between marks.

    That is two or more words of several letters in a row, and single ones where most letters of the
    line are capitals; abbreviations in other text stay as they are. `spell` returns one of
    `spellings`. `unmark_case` undoes it.
    """
    words = line.split(" ")
    if not any(len(word) > 1 and word.isupper() for word in words):
        return line
    least = 1 if _are_mostly_capitals(line) else 2
    marked: list[str] = []
    for can_be_marked, group in itertools.groupby(words, _can_be_marked):
        run = list(group)
        cased = [number for number, word in enumerate(run) if word.isupper()]
        if not can_be_marked or sum(_num_letters(run[number]) > 1 for number in cased) < least:
            marked += run
            continue
        first, stop = cased[0], cased[-1] + 1  # numbers and signs around them need no mark
        marked += [*run[:first], UPPER, *map(spell, run[first:stop]), NORMAL, *run[stop:]]
    return " ".join(marked[:-1] if marked[-1] == NORMAL else marked)


def spellings(word: str) -> list[str]:
    """Returns a word in capitals in small letters, and with a capital in front if it can be."""
    small = word.lower()
    first = next((number for number, letter in enumerate(small) if letter.isalpha()), 0)
    title = small[:first] + small[first : first + 1].title() + small[first + 1 :]
    return [small, title] if _raise(title) == word else [small]


def unmark_case(line: str) -> str:
    """Returns a line without marks, the words after the first of two marks in capitals."""
    if UPPER not in line and NORMAL not in line:
        return line
    first, *rest = _MARK.split(line)
    marked = zip(rest[::2], rest[1::2], strict=True)
    parts = [first, *(_raise(text) if mark == UPPER else text for mark, text in marked)]
    return " ".join(part for part in parts if part)


def _can_be_marked(word: str) -> bool:
    """Tells whether a word has no letters but capitals, and small letters can be changed back."""
    has_others = any(map(str.isalpha, word)) and not word.isupper()
    return not has_others and _raise(word.lower()) == word


def _raise(text: str) -> str:
    return unicodedata.normalize("NFC", text.upper())


def _num_letters(word: str) -> int:
    return sum(map(str.isalpha, word))


def _are_mostly_capitals(line: str) -> bool:
    capitals = sum(map(str.isupper, line))
    return capitals > sum(map(str.islower, line))
