"""Normalization: the one form of a line that training, test sets and translation work with."""
# SPDX-License-Identifier: Apache-2.0

import functools
import unicodedata

_WORD_MARK = "\u2581"  # SentencePiece's space: in text it would be ambiguous


def _characters(*codes: int | range) -> frozenset[str]:
    return frozenset(
        chr(code) for each in codes for code in ([each] if isinstance(each, int) else each)
    )


# Invisible, and removing them loses no letter: soft hyphen, zero-width space, marks of writing
# direction, word joiner, operators of formulas, deprecated format characters, byte order mark.
_REMOVED = _characters(
    *(0x00AD, 0x061C, 0x200B, 0x200E, 0x200F, range(0x202A, 0x202F), range(0x2060, 0x2065)),
    *(range(0x2066, 0x2070), 0xFEFF),
)
# All that can't be seen by itself: Unicode's Default_Ignorable_Code_Point,
# marks of annotations, the blank of Braille. Within a word some are needed, such as the joiners of
# Persian.
_HIDDEN = _REMOVED | _characters(
    *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, range(0x180B, 0x1810), 0x200C, 0x200D, 0x2065),
    *(0x2800, 0x3164, range(0xFE00, 0xFE10), 0xFFA0, range(0xFFF0, 0xFFFC)),
    *(range(0x1BCA0, 0x1BCA4), range(0x1D173, 0x1D17B), range(0xE0000, 0xE1000)),
)


def normalize(text: str) -> str:
    """Returns a text as one line: NFC, single spaces, without control or invisible characters.

    Empty if nothing of it can be seen. The same for every language; applied again it changes
    nothing. `cleaning.clean.normalize_all` does the same to many texts at once, faster.
    """
    text = " ".join(text.translate(_table()).split())
    return "" if is_invisible(text) else unicodedata.normalize("NFC", text)


def normalized(character: str) -> str:
    """Returns what `normalize` makes of a character alone: itself, a space, `_` or nothing."""
    if character.isspace():
        return " "
    if unicodedata.category(character) in ("Cc", "Cs") or character in _REMOVED:
        return ""
    return "_" if character == _WORD_MARK else character


def is_hidden(character: str) -> bool:
    """Tells whether a character can't be seen by itself."""
    return character in _HIDDEN


def is_invisible(text: str) -> bool:
    """Tells whether a text has nothing but spaces and characters that can't be seen."""
    return all(each == " " or each in _HIDDEN for each in text)


def one_line(text: str) -> str:
    """Returns a text as it is, but with spaces for tabs and line ends, so that it fits in a column.

    A lone surrogate, which no file can hold, becomes U+FFFD.
    """
    return text.replace("\r\n", " ").translate(_column_table())


@functools.cache
def _table() -> dict[int, str]:
    """Returns `normalized` of the characters that it changes; all are in the first plane."""
    codes = range(0x10000)
    return {code: new for code in codes if (new := normalized(chr(code))) != chr(code)}


@functools.cache
def _column_table() -> dict[int, str]:
    return dict.fromkeys(map(ord, "\t\n\r"), " ") | dict.fromkeys(range(0xD800, 0xE000), "\ufffd")
