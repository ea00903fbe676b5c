"""Cleaning: text in one normal form, and the reasons for which a pair is no training pair."""
# SPDX-License-Identifier: Apache-2.0

import re
import unicodedata

_SOFT = "\u00ad\u200b\u200e\u200f\u2060\ufeff"  # invisible, and no letter is lost without them
_WORD_MARK = "\u2581"  # SentencePiece writes a space so; as text it couldn't be told from one

SHORT_SUBWORDS = 10  # no ratio is asked of sentences up to here

_PLACEHOLDER = re.compile(
    r"\[%[^\]]*%\]"  # [%key:common::x%]
    r"|\$t\([^)]*\)"  # $t(key)
    r"|\$?\{+[^{}]*\}+"  # {entity} {{ value }} ${name}
    r"|%\([^)]*\)[a-zA-Z]"  # %(name)s
    r"|%(?:\d+\$)?[-+#0]*\d*(?:\.\d+)?[sdifgxru@](?![a-zA-Z])"  # %s %1$s %.2f
    r"|</?[A-Za-z][^<>]*>|&[a-z]+;"  # <b> &nbsp;
    r"|https?://\S+"
)


class _Characters(dict[int, str | None]):
    """What each character becomes; made as characters are met, for `str.translate`."""

    def __missing__(self, code: int) -> str | None:
        character = chr(code)
        category = unicodedata.category(character)
        if character.isspace():
            becomes = " "
        elif category in ("Cc", "Cs") or character in _SOFT or 0x202A <= code <= 0x202E:
            becomes = None
        elif 0x2066 <= code <= 0x2069:
            becomes = None
        else:
            becomes = "_" if character == _WORD_MARK else character
        self[code] = becomes
        return becomes


_CHARACTERS = _Characters()


def normalize(text: str) -> str:
    """Returns the text in NFC, no control characters, single spaces and none around it."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return " ".join(text.translate(_CHARACTERS).split())


def placeholders(text: str) -> frozenset[str]:
    """Returns what a translator copies as it stands: `{entity}`, `%(name)s`, tags, addresses."""
    return frozenset(_PLACEHOLDER.findall(text))


def num_words(text: str) -> int:
    """Returns how many words of letters the text has."""
    return sum(any(character.isalpha() for character in word) for word in text.split())


def why_drop(source: str, english: str, max_characters: int) -> str | None:
    """Returns the reason why a normalized pair can't be trained on, or None where it can."""
    if not source or not english:
        return "empty"
    if source == english:
        return "identical"
    if max(len(source), len(english)) > max_characters:
        return "too_long"
    if placeholders(source) != placeholders(english):
        return "placeholders"
    return None


def is_ratio_above(length: int, other_length: int, max_ratio: float) -> bool:
    """Tells whether the longer of two lengths (in subwords) is more than `max_ratio` of the other.

    Never for two short ones: a single English word may well take ten subwords elsewhere.
    """
    longer, shorter = max(length, other_length), min(length, other_length)
    return longer > SHORT_SUBWORDS and longer > max_ratio * shorter
