"""`wheel:` translation catalogs in a Python wheel, read without unpacking it."""
# SPDX-License-Identifier: Apache-2.0

import json
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from gshard_mt.data.corpora.archive import check_total, find_archive, open_archive, read_member
from gshard_mt.data.corpora.entry import Entry, Pair
from gshard_mt.data.corpora.rows import without_surrogates
from gshard_mt.data.corpora.tags import ENGLISH, Tags
from gshard_mt.errors import DataError

_CATALOGUE = re.compile(r"(?P<folder>[^\\]*/translations)/(?P<locale>[^/\\]+)\.json")


def read_wheel(entry: Entry) -> Iterator[Pair]:
    """Yields the pairs of `*/translations/<locale>.json`, aligned by key with its `en.json`.

    `entry.location` is NAME==VERSION, fetched once and checked, or a path. A language includes its
    locales (`es` includes `es-419`); a Pair's language is the locale. Without `en.json`, the first
    other English is taken (`en-GB.json`).
    """
    path = find_archive(entry)
    tags = Tags(entry.languages, path)
    with open_archive(path) as archive:
        yield from _aligned(archive, tags)
    tags.tell("catalogues")


def _aligned(archive: zipfile.ZipFile, tags: Tags) -> Iterator[Pair]:
    catalogues: dict[str, dict[str, zipfile.ZipInfo]] = defaultdict(dict)
    for member in archive.infolist():
        if match := _CATALOGUE.fullmatch(member.filename):
            catalogues[match["folder"]][match["locale"]] = member
    num_bytes = 0
    for folder in sorted(catalogues):
        locales = catalogues[folder]
        wanted = [locale for locale in sorted(locales) if tags[locale] not in (None, ENGLISH)]
        for locale in locales:
            tags.pass_over(locale)
        names = [locale for locale in locales if tags[locale] == ENGLISH]
        names.sort(key=lambda name: (len(name), name))  # `en` before `en-GB`
        if not names or not wanted:
            continue
        num_bytes += sum(locales[locale].file_size for locale in [names[0], *wanted])
        check_total(archive, num_bytes)
        english = _strings(archive, locales[names[0]])
        for locale in wanted:
            strings = _strings(archive, locales[locale])
            for key in english:
                if key in strings:
                    yield Pair(locale, strings[key], english[key])


def _strings(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> dict[tuple[str, ...], str]:
    content = read_member(archive, member)
    try:
        return dict(_leaves(json.loads(content), ()))
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{archive.filename}:{member.filename}: not a JSON catalogue: {error}"
        ) from None


def _leaves(node: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(node, str):
        yield path, without_surrogates(node)
    elif isinstance(node, dict):
        for key, child in node.items():
            yield from _leaves(child, (*path, key))
