"""Rows: the supported layouts of tables of translations, and the pairs in a row."""
# SPDX-License-Identifier: Apache-2.0

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from gshard_mt.data.corpora.entry import Pair
from gshard_mt.data.corpora.tags import ENGLISH, Tags
from gshard_mt.errors import DataError

SHAPES = (
    'accepted: {"translation": {"de": ..., "en": ...}}, {"translations": {"language": [...], '
    '"translation": [...]}}, {"source": ..., "target": ...}, {"de": ..., "en": ...}'
)
STRUCTS = ("translation", "translations")
SIDES = ("source", "target")

_SURROGATE = re.compile("[\ud800-\udfff]")


class RowError(ValueError):
    """A row can't be read; `read_rows` adds the file and the row number."""


def read_rows(rows: Iterable[tuple[str, Mapping[str, Any] | None]], tags: Tags) -> Iterator[Pair]:
    """Yields the pairs of a file's rows (None: a blank one), each given with its place for errors.

    Raises DataError for a row in no layout of SHAPES, and if there are rows but no pairs.
    """
    has_rows = has_pairs = False
    for where, row in rows:
        has_rows = True
        try:
            for pair in [] if row is None else pairs_of(row, tags):
                has_pairs = True
                yield pair
        except RowError as error:
            raise DataError(f"{where}: {error}") from None
    if has_rows and not has_pairs:
        raise tags.refusal()
    tags.tell()


def pairs_of(row: Mapping[str, Any], tags: Tags) -> Iterable[Pair]:
    """Returns a row's pairs: one for each wanted language if there is English.

    A null is a missing translation, wherever it stands. Raises RowError for any layout that is not
    in SHAPES.
    """
    for name in STRUCTS:
        if isinstance(texts := row.get(name), Mapping):
            if None in (texts.get("language", ""), texts.get("translation", "")):
                return []  # a null list of languages or texts
            if isinstance(languages := texts.get("language"), list):
                zipped = _zipped(languages, texts.get("translation"))
                return _pairs(zipped, tags, tags.pass_over)
            if not any(tags[key] == ENGLISH for key in texts):
                raise RowError(f"no English in {name!r}, it has {_names(texts)}")
            return _pairs(texts.items(), tags, tags.pass_over)
    if SIDES[0] in row and SIDES[1] in row:
        source, english = (_text(name, row[name]) for name in SIDES)
        return [] if source is None or english is None else [Pair(tags.single, source, english)]
    has_english = not tags.is_any and any(tags[key] == ENGLISH for key in row)
    if not has_english and any(name in row and row[name] is None for name in STRUCTS):
        return []
    if tags.is_any:
        # Any column's name may be a language code: `id` is Indonesian.
        raise RowError(f'"*" needs a translation column; {SHAPES}; or list the languages')
    if not has_english:
        raise RowError(f"no translation in it, it has {_names(row)}; {SHAPES}")
    return _pairs(row.items(), tags)


def without_surrogates(text: str) -> str:
    """Returns the text with U+FFFD for lone surrogates, such as `\\ud83d` in JSON."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def _pairs(
    texts: Iterable[tuple[str, Any]], tags: Tags, pass_over: Callable[[str], None] | None = None
) -> Iterator[Pair]:
    """Yields the pairs of a row; texts of other tags go to `pass_over`, unless they are columns."""
    english, sources = None, []
    for key, value in texts:
        role = tags[key]
        if role is None:
            if pass_over and value:
                pass_over(key)
            continue
        text = _text(key, value)
        if role == ENGLISH:
            if english is None or not english.strip():  # of en-GB and en-US, the first with text
                english = text if english is None else text or english
        elif text is not None:
            sources.append((key, text))
    if english is not None:
        for key, text in sources:
            yield Pair(key, text, english)


def _text(key: str, value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        return without_surrogates(value)
    raise RowError(f"{key!r}: found {type(value).__name__}, accepted: a string")


def _zipped(languages: list[Any], texts: Any) -> list[tuple[str, Any]]:
    if not isinstance(texts, list) or len(texts) != len(languages):
        raise RowError("'language' and 'translation' are not lists of one length")
    if not all(isinstance(language, str | None) for language in languages):
        raise RowError("'language' has an item that is not a string")
    return [each for each in zip(languages, texts, strict=True) if each[0] is not None]


def _names(row: Iterable[str]) -> str:
    names = [str(name)[:40] for name in row]
    return repr(names[:12]) if names else "nothing"
