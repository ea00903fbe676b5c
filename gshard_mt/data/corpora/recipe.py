"""A corpus recipe: a TOML file that lists sources of text, their languages and their licences."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import hashlib
import json
import math
import pathlib
import re
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gshard_mt.config.records import CleaningConfig
from gshard_mt.data.corpora.entry import SPLITS, Entry
from gshard_mt.data.corpora.readers import SCHEMES
from gshard_mt.errors import DataError, suggest
from gshard_mt.languages import base_language, plain_tag

_RECIPE_KEYS = {"name", "corpus"}
_CORPUS_KEYS = {"language", "split", "source", "license", "sha256", "cleaning"}
_CORPUS_KEYS |= {"name", "weight", "max_pairs"}
# In a source: makes one entry per language, with its tag as written in the recipe.
_EACH = "{language}"
# Settings of data.cleaning that a corpus may have for itself; others are about all of a language.
_CLEANING = {
    field.name: field.type
    for field in dataclasses.fields(CleaningConfig)
    if field.name not in ("max_length_ratio", "duplicates", "near_duplicates")
}
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_NAME = re.compile(r"[^\s,=/*?\[\]{}]+")  # what weights refer to, by globs
# Keys that recipes from before there were such keys lack, with what their absence means.
_LATER = {"cleaning": (), "name": "", "weight": 1.0, "max_pairs": 0}


@dataclass(frozen=True)
class Recipe:
    name: str
    entries: tuple[Entry, ...]

    def fingerprint(self) -> str:
        """Returns a hash of the recipe's content, independent of its path."""
        entries = [dataclasses.asdict(entry) | {"folder": ""} for entry in self.entries]
        for entry in entries:
            del entry["default_name"]  # follows from the rest
            for key in [key for key, value in _LATER.items() if entry[key] == value]:
                del entry[key]
        content = json.dumps([self.name, entries], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def max_pairs(self) -> dict[int, int]:
        """Returns the most training pairs of each language, by number, of corpora with a limit."""
        return {n: entry.max_pairs for n, entry in enumerate(self.entries) if entry.max_pairs}


def load_recipe(path: pathlib.Path) -> Recipe:
    """Reads and checks a recipe. Raises DataError for the first invalid entry."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such recipe") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"{path}: not a recipe: {error}") from None
    _check_keys(content, _RECIPE_KEYS, str(path))
    tables = content.get("corpus")
    if not isinstance(tables, list) or not tables or not all(isinstance(t, dict) for t in tables):
        raise DataError(f"{path}: no [[corpus]] table; accepted: one or more")
    of_tables = [
        _entries(table, path.parent, f"{path}: corpus {number}")
        for number, table in enumerate(tables, start=1)
    ]
    name = content.get("name", path.stem)
    if not isinstance(name, str):
        raise DataError(f"{path}: name: found {name!r}, accepted: a string")
    return Recipe(name, tuple(_with_default_names(of_tables, tables)))


def _entries(table: dict[str, Any], folder: pathlib.Path, where: str) -> list[Entry]:
    _check_keys(table, _CORPUS_KEYS, where)
    for key in ("language", "source", "license"):
        if key not in table:
            raise DataError(f"{where}: {key} is missing")
    for key in ("split", "source", "license", "sha256"):
        if not isinstance(table.get(key, ""), str):
            raise DataError(f"{where}: {key}: found {table[key]!r}, accepted: a string")
    split, sha256 = table.get("split", "train"), table.get("sha256", "")
    if split not in SPLITS:
        raise DataError(f"{where}: split: found {split!r}{suggest(split, SPLITS)}")
    if sha256 and not _SHA256.fullmatch(sha256):
        raise DataError(f"{where}: sha256: found {sha256!r}, accepted: 64 hexadecimal digits")
    scheme, colon, location = table["source"].partition(":")
    if not colon or scheme not in SCHEMES:
        raise DataError(
            f"{where}: source: found {table['source']!r}, which has no known scheme, "
            f"accepted: {', '.join(f'{name}:' for name in sorted(SCHEMES))}"
        )
    is_each = _EACH in location
    languages = _languages(table["language"], SCHEMES[scheme].has_languages or is_each, where)
    cleaning = _cleaning(table.get("cleaning", {}), f"{where}: cleaning")
    entry = Entry(languages, split, scheme, location, table["license"], sha256, folder, cleaning)
    entry = dataclasses.replace(entry, **_mixing(table, split, where))
    if not is_each:
        return [entry]
    if languages == ("*",):
        raise DataError(f'{where}: language: found "*", accepted with {_EACH} in source: codes')
    tags = [table["language"]] if isinstance(table["language"], str) else table["language"]
    return [
        dataclasses.replace(entry, languages=(code,), location=location.replace(_EACH, tag))
        for tag, code in zip(tags, languages, strict=True)
    ]


def _mixing(table: dict[str, Any], split: str, where: str) -> dict[str, Any]:
    """Returns what a table says of its part in the mixture: `name`, `weight`, `max_pairs`."""
    name = table.get("name")
    if name is not None and not (isinstance(name, str) and _NAME.fullmatch(name)):
        accepted = "text without spaces and without , = / * ? [ ] { }"
        raise DataError(f"{where}: name: found {name!r}, accepted: {accepted}")
    found = {key: table[key] for key in ("weight", "max_pairs") if key in table}
    for key, value in found.items():
        if split != "train":
            raise DataError(f"{where}: {key}: found {value!r}, accepted: none, as split is {split}")
    weight, most = found.get("weight", 1.0), found.get("max_pairs", 1)
    if type(weight) not in (int, float) or not 0 <= weight < math.inf:
        raise DataError(f"{where}: weight: found {weight!r}, accepted: a number, 0 or more")
    if type(most) is not int or most < 1:
        raise DataError(f"{where}: max_pairs: found {most!r}, accepted: an integer, 1 or more")
    return {"name": name or "", **found}


def _with_default_names(
    of_tables: Sequence[list[Entry]], tables: Sequence[dict[str, Any]]
) -> list[Entry]:
    """Returns all entries, with a name for each table that has none.

    If several tables would have the same one, the table's number is added.
    """
    names = [table.get("name") or _default_name(*table["source"].split(":", 1)) for table in tables]
    counts = Counter(names)
    return [
        dataclasses.replace(
            entry, default_name=names[i] if counts[names[i]] == 1 else f"{names[i]}-{i + 1}"
        )
        for i, entries in enumerate(of_tables)
        for entry in entries
    ]


def _default_name(scheme: str, location: str) -> str:
    """Returns the last part of a source without wildcards, up to a dot, version or configuration.

    That is `europarl` for tsv:europarl/*.tsv.gz and for tsv:europarl.de-en.tsv.
    """
    parts = re.split(r"[:,]|==", re.sub(r"\w+://", "", location))[0].split("/")
    stems = [part.partition(".")[0] for part in reversed(parts)]
    return next((stem for stem in stems if _NAME.fullmatch(stem)), scheme)


def _cleaning(table: Any, where: str) -> tuple[tuple[str, bool | int], ...]:
    """Returns settings by name, those of one language as `de.script`, sorted."""
    if not isinstance(table, dict):
        raise DataError(f"{where}: found {table!r}, accepted: a table, [corpus.cleaning]")
    found: dict[str, bool | int] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            settings = _settings(value, f"{where}: {key}")
            found |= {f"{_code(key, where)}.{name}": each for name, each in settings.items()}
        else:
            found |= _settings({key: value}, where)
    return tuple(sorted(found.items()))


def _settings(table: dict[str, Any], where: str) -> dict[str, bool | int]:
    _check_keys(table, set(_CLEANING), where)
    for key, value in table.items():
        if type(value) is not _CLEANING[key] or value < 0:
            accepted = "true, false" if _CLEANING[key] is bool else "a number, 0 or more"
            raise DataError(f"{where}: {key}: found {value!r}, accepted: {accepted}")
    return table


def _languages(value: Any, has_languages: bool, where: str) -> tuple[str, ...]:
    tags = [value] if isinstance(value, str) else value
    if not isinstance(tags, list) or not tags or not all(isinstance(tag, str) for tag in tags):
        raise DataError(
            f'{where}: language: found {value!r}, accepted: a code, a list of codes, "*"'
        )
    if not has_languages and (len(tags) > 1 or tags == ["*"]):
        raise DataError(f"{where}: language: found {value!r}, accepted for this scheme: one code")
    if tags == ["*"]:
        return ("*",)
    codes = tuple(_code(tag, where) for tag in tags)
    if any(base_language(code) == "en" for code in codes):
        raise DataError(f"{where}: language: found 'en', which is the target, accepted: any other")
    return codes


def _code(tag: str, where: str) -> str:
    try:
        return plain_tag(tag)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None


def _check_keys(table: dict[str, Any], known: set[str], where: str) -> None:
    for key in table:
        if key not in known:
            raise DataError(f"{where}: unknown key {key!r}{suggest(key, known)}")
