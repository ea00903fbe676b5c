"""Perturbations: sentence pairs as users type them, in capitals, with typos, with placeholders."""
# SPDX-License-Identifier: Apache-2.0

import random
import re
import unicodedata
from collections.abc import Callable
from typing import NamedTuple

from gshard_mt.data.normalization import normalize

# What case and typos leave alone: placeholders, tags, and words that are addresses or paths.
_LITERAL = re.compile(
    r"\{+[^{}]*\}+|<[^<>]*>|(?<!\S)[^\s{}<>%@\\/]*(?:[{}<>%@\\]|/[^\s/]*/|(?<=\.\w\w)/|(?<=\.\w\w\w)/)\S*"
)
_NESTED = re.compile(r"\{[^{}]*[,{]")  # such as {n, plural, one {# file} other {# files}}
_FIRST_LETTER = re.compile(r"(?<![\w'’])[^\W\d_]")
_GEORGIAN = re.compile("[\u10d0-\u10ff]+")  # everyday text has no capitals
_DOTTED_I = {"az", "crh", "gag", "kaa", "kk_Latn", "tr", "tt_Latn"}
_NOT_FINAL = "\"'%@/\\#&*"  # punctuation in Unicode, but not of a sentence's end
_WORD = re.compile(r"[^\W\d_]{4,}")  # may get a typo
_TYPO_RATE = 0.1  # of such words, and one in a sentence at least
_NAME_OR_NUMBER = re.compile(r"(?<!\S)(?:\d+|[A-Z]\w*)(?=[\s.,!?;:]|$)")
_PLACEHOLDERS = ("{0}", "{1}", "{name}", "{{ count }}", "%s", "%d", "%1$s", "%(name)s", "${value}")


class Sentence(NamedTuple):
    """A sentence, its language and its translation."""

    language: str
    source: str
    english: str


Perturbation = Callable[[Sentence, random.Random], tuple[str, str]]


def upper_case(text: str, language: str) -> str:
    """Returns a text in capitals, as the language writes them; placeholders stay as they are."""

    def raised(part: str) -> str:
        if language in _DOTTED_I:
            part = part.replace("i", "İ")
        part = part.upper()
        if language == "el":  # capitals have no accent, but they keep a diaeresis
            part = unicodedata.normalize("NFD", part).replace("\u0301", "")
            part = unicodedata.normalize("NFC", part)
        return part

    return _outside(_LITERAL, text, lambda part: _outside(_GEORGIAN, part, raised))


def title_case(text: str, language: str) -> str:
    """Returns a text with a capital at the start of each word, its other letters unchanged."""

    def raised(match: re.Match) -> str:
        is_dotted = match[0] == "i" and language in _DOTTED_I
        return "İ" if is_dotted else _outside(_GEORGIAN, match[0], str.title)

    return _outside(_LITERAL, text, lambda part: _FIRST_LETTER.sub(raised, part))


def _both(change: Callable[[str, str], str]) -> Perturbation:
    """Returns the change of both sides by one function."""

    def changed(pair: Sentence, _: random.Random) -> tuple[str, str]:
        return change(pair.source, pair.language), change(pair.english, "en")

    return changed


def _typos(pair: Sentence, draw: random.Random) -> tuple[str, str]:
    """Misspells some words of the source: letters swapped, left out, doubled, replaced."""
    text = pair.source
    taken = [match.span() for match in _LITERAL.finditer(text)]
    words = [
        match.span()
        for match in _WORD.finditer(text)
        if not any(start < match.end() and match.start() < stop for start, stop in taken)
    ]
    if not words:
        return text, pair.english
    chosen = [word for word in words if draw.random() < _TYPO_RATE] or [draw.choice(words)]
    for start, stop in reversed(chosen):
        text = text[:start] + _misspell(text[start:stop], draw) + text[stop:]
    return text, pair.english


def _misspell(word: str, draw: random.Random) -> str:
    at = draw.randrange(1, len(word) - 1)
    before, letter, after = word[:at], word[at], word[at + 1 :]
    forms = (after[0] + letter + after[1:], after, letter * 2 + after, draw.choice(word) + after)
    return before + draw.choice(forms)


def _no_final_punctuation(pair: Sentence, _: random.Random) -> tuple[str, str]:
    source, english = (_without_final_punctuation(side) for side in pair[1:])
    return (source, english) if source and english else (pair.source, pair.english)


def _without_final_punctuation(text: str) -> str:
    while text and unicodedata.category(text[-1]) == "Po" and text[-1] not in _NOT_FINAL:
        text = text[:-1].rstrip()
    return text


def _placeholders(pair: Sentence, draw: random.Random) -> tuple[str, str]:
    """Puts a placeholder for a name or number that both sides have, else before or after both."""
    found = draw.choice(_PLACEHOLDERS)
    both = [
        word
        for word in dict.fromkeys(_NAME_OR_NUMBER.findall(pair.english))
        if all(len(re.findall(rf"(?<!\w){re.escape(word)}(?!\w)", side)) == 1 for side in pair[1:])
    ]
    if both:
        word = draw.choice(both)
        whole = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)")
        source, english = (whole.sub(lambda _: found, side) for side in pair[1:])
        return source, english
    if draw.random() < 0.5:
        return f"{found} {pair.source}", f"{found} {pair.english}"
    return f"{pair.source} {found}", f"{pair.english} {found}"


# By the keys of AugmentationConfig.
PERTURBATIONS: dict[str, Perturbation] = {
    "upper_case": _both(upper_case),
    "title_case": _both(title_case),
    "typos": _typos,
    "no_final_punctuation": _no_final_punctuation,
    "placeholders": _placeholders,
}


def perturb(name: str, pair: Sentence, seed: str) -> tuple[str, str]:
    """Returns source and English after one of `PERTURBATIONS`, normalized: the same for a seed.

    A message with variants, whose parts have a syntax of their own, stays as it is.
    """
    if any(map(_NESTED.search, pair[1:])):
        return pair.source, pair.english
    source, english = PERTURBATIONS[name](pair, random.Random(seed))
    return normalize(source), normalize(english)


def _outside(pattern: re.Pattern, text: str, change: Callable[[str], str]) -> str:
    """Applies a change to what lies between the matches of a pattern."""
    parts, start = [], 0
    for match in pattern.finditer(text):
        parts += [change(text[start : match.start()]), match[0]]
        start = match.end()
    return "".join([*parts, change(text[start:])])
