"""Sentences of a text, which is split since a model translates one sentence at a time."""
# SPDX-License-Identifier: Apache-2.0

import itertools
import re
import threading
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from sentencex import segment  # type: ignore[attr-defined]

from gshard_mt.config.records import Config
from gshard_mt.data.cleaning import identification
from gshard_mt.data.normalization import normalize
from gshard_mt.data.tokenizer import Tokenizer

ALWAYS, NEVER = "always", "never"
_MAX_PIECE = 16  # characters of a subword, at most
_JOINER = "\u200d"  # zero width joiner

# Where a sentence that is too long is cut, the best first.
_PLACES = [
    re.compile(r"[.!?;:…؛؟।॥።።፤။။៖។](?=\s)|[。！？；：]"),
    re.compile(r"[,،፣–—)\]}](?=\s)|[，、）」』】]"),
    re.compile(r"(?=\s)"),
]
_QUOTES = "'\"‘’‚“”„«»‹›「」『』()[]"
_NO_QUOTES = str.maketrans(dict.fromkeys(_QUOTES, "_"))
_CLOSING = re.compile(rf"[{re.escape(_QUOTES)}]+(?:\s+|$)")
_IDENTIFYING = threading.Lock()
_LINES = re.compile(r"(\s*\n\s*)")


class Sentences(NamedTuple):
    """The sentences of a text, normalized, and the white space around them.

    `spaces` are one more than `parts`: before the first, between two, and after the last.
    """

    parts: list[str]
    spaces: list[str]
    is_in_pieces: bool = False  # a sentence was longer than `decode.max_source_length`, and was cut

    def join(self, translations: Sequence[str], keeps_layout: bool = False) -> str:
        """Returns the translations of the parts as one text, by default on one line.

        With `keeps_layout`, the white space of the source is around them, and between two of them
        a space where the source has none.
        """
        if not keeps_layout:
            return " ".join(text for text in translations if text)
        first, *others = self.spaces
        between = [space or " " for space in others[:-1]] + others[-1:]
        pairs = zip(translations, between, strict=True)
        return first + "".join(text + space for text, space in pairs)


class Splitter:
    """Splits texts as `decode.split` says; whatever is longer than a model reads is always cut."""

    def __init__(self, config: Config, tokenizer: Tokenizer):
        self._mode, self._tokenizer = config.decode.split, tokenizer
        self._longest = config.decode.max_source_length - 1
        self._longest_line = min(config.data.source_length - 1, self._longest)

    def split(self, texts: Sequence[str], languages: Sequence[str | None]) -> list[Sentences]:
        """Returns the sentences of each text, in the order of the text.

        A language determines what is an abbreviation; without one, it is identified.
        """
        if self._mode == NEVER:
            return [_collect([text], False) for text in texts]
        lines = [_LINES.split(text) for text in texts]  # a line, white space, a line ...
        counts = iter(self._count([line for each in lines for line in each[::2]]))
        found = []
        for parts, language in zip(lines, languages, strict=True):
            segments, is_in_pieces = [], False
            for number, part in enumerate(parts):
                is_space = number % 2
                pieces = [[part]] if is_space else self._split_line(part, next(counts), language)
                segments += [piece for each in pieces for piece in each]
                is_in_pieces |= any(len(each) > 1 for each in pieces)
            found.append(_collect(segments, is_in_pieces))
        return found

    def identify(self, texts: Sequence[str]) -> list[str | None]:
        """Returns the language of each text, or None where it could be another one."""
        guesses = _guess(texts)
        return [
            label if is_confident and _num_letters(text) >= identification.MIN_LETTERS else None
            for text, label, is_confident in zip(
                texts, guesses.labels, guesses.is_confident, strict=True
            )
        ]

    def _count(self, texts: Sequence[str]) -> list[int]:
        """Returns the number of subwords of each text."""
        return list(map(len, self._tokenizer.encode_source([normalize(each) for each in texts])))

    def _split_line(self, line: str, num_subwords: int, language: str | None) -> list[list[str]]:
        """Returns the sentences of a line, each as its pieces; together they are the line."""
        is_long = num_subwords > self._longest_line
        if not is_long and (self._mode != ALWAYS or not num_subwords):
            return [[line]]
        language = (language or _guess([line]).labels[0]).split("-")[0]
        sentences = _merge_numbers(segment(language, line))
        if not is_long:
            return [[sentence] for sentence in sentences]
        pieces = []
        for sentence, count in zip(sentences, self._count(sentences), strict=True):
            is_long = count > self._longest_line
            inner = _split_quotations(language, sentence) if is_long else [sentence]
            pieces += [list(self._cut(each)) for each in inner]
        return pieces

    def _cut(self, sentence: str) -> Iterator[str]:
        """Yields the pieces of a sentence, each short enough for the model."""
        while self._count([sentence[: self._longest * _MAX_PIECE + 1]])[0] > self._longest:
            place = _best_place(sentence[: self._fit(sentence) + 1])
            yield sentence[:place]
            sentence = sentence[place:]
        yield sentence

    def _fit(self, sentence: str) -> int:
        """Returns how many of the first characters have no more subwords than the model reads."""
        fits, too_many = 1, min(len(sentence), self._longest * _MAX_PIECE + 1)
        while too_many - fits > 1:
            middle = (fits + too_many) // 2
            if self._count([sentence[:middle]])[0] > self._longest:
                too_many = middle
            else:
                fits = middle
        return fits


def _guess(texts: Sequence[str]) -> identification.Guesses:
    """Identifies languages, for one thread at a time, since the model keeps words it has seen."""
    with _IDENTIFYING:
        return identification.guess(texts)


def _num_letters(text: str) -> int:
    return sum(map(str.isalpha, text))


def _merge_numbers(sentences: Iterable[str]) -> list[str]:
    """Joins sentences without letters, such as the number of an item, with the next one."""
    merged: list[str] = []
    is_open = False
    for sentence in sentences:
        if is_open:
            merged[-1] += sentence
        else:
            merged.append(sentence)
        is_open = not any(map(str.isalpha, merged[-1]))
    if is_open and len(merged) > 1:
        last = merged.pop()
        merged[-1] += last
    return merged


def _split_quotations(language: str, sentence: str) -> list[str]:
    """Returns the sentences within quotation marks and brackets, too, which are one for sentencex.

    So is all that follows an apostrophe, up to the next one.
    """
    places, place = [0], 0
    for each in segment(language, sentence.translate(_NO_QUOTES)):
        place += len(each)
        match = _CLOSING.match(sentence, place)  # marks that belong to what is before them
        places.append(match.end() if match else place)
    parts = [sentence[start:end] for start, end in itertools.pairwise(places)]
    return _merge_numbers(part for part in parts if part)


def _best_place(start: str) -> int:
    """Returns where to cut, given the characters that fit and the one after them."""
    for pattern in _PLACES:
        ends = [match.end() for match in pattern.finditer(start, len(start) // 2)]
        ends = [end for end in ends if end < len(start)]
        if ends:
            return ends[-1]
    place = len(start) - 1
    while place > 1 and (_is_attached(start[place]) or start[place - 1] == _JOINER):
        place -= 1
    return place if place > 1 else max(len(start) - 1, 1)


def _is_attached(character: str) -> bool:
    """Tells whether a character belongs to the one before it, as an accent does."""
    return unicodedata.category(character).startswith("M") or character == _JOINER


def _collect(segments: Iterable[str], is_in_pieces: bool) -> Sentences:
    """Returns the sentences among consecutive segments of a text; the rest is white space."""
    parts, spaces, pending = [], [], ""
    for each in segments:
        if part := normalize(each):
            start, end = len(each) - len(each.lstrip()), len(each.rstrip())
            parts.append(part)
            spaces.append(pending + each[:start])
            pending = each[end:]
        else:
            pending += each
    return Sentences(parts, [*spaces, pending], is_in_pieces)
