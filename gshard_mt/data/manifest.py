"""The manifest of a prepared directory: what is in it, from what, and whether it is finished."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import json
import os
import pathlib
import re
import shutil
from typing import Any

from gshard_mt.config.records import DataConfig
from gshard_mt.errors import DataError

FORMAT_VERSION = 1
NAME = "manifest.json"
WORK = ".work"  # what a preparation keeps on disk until it is done

_PAIR_FOLDER = re.compile(r"[a-z]{2,3}(_[A-Z][a-z]{3})?-en")
# Settings that prepared data is the same for, whatever they are.
_OTHER_KEYS = {"recipe", "temperature", "num_workers"}


def read_manifest(data_dir: pathlib.Path) -> dict[str, Any]:
    """Returns the manifest of a finished directory. Raises DataError for any other directory."""
    path = data_dir / NAME
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        version, is_finished = manifest["format_version"], manifest["finished"]
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; make it with gshard-prepare-data") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a manifest of prepared data: {error!r}") from None
    if version != FORMAT_VERSION:
        raise DataError(
            f"{path}: format_version is {version!r}; accepted: {FORMAT_VERSION}; prepare it again"
        )
    if is_finished is not True:
        raise DataError(f"{path}: preparation was not finished; run gshard-prepare-data again")
    return manifest


def write_manifest(data_dir: pathlib.Path, manifest: dict[str, Any]) -> None:
    """Writes the manifest whole or not at all."""
    content = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    temporary = data_dir / f".{NAME}.new"
    temporary.write_text(content, encoding="utf-8")
    os.replace(temporary, data_dir / NAME)


def claim_directory(data_dir: pathlib.Path, identity: dict[str, Any]) -> bool:
    """Makes an empty directory for `identity`; returns False where that is there, finished.

    What an unfinished preparation left is removed. Raises DataError where the directory holds
    something else, or data prepared with other settings.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        names = sorted(path.name for path in data_dir.iterdir())
    except OSError as error:
        raise DataError(f"{data_dir}: can't be made a data directory: {error.strerror}") from None
    if NAME in names:
        found = _read_any(data_dir / NAME)
        if found.get("finished") is True:
            _check_same(data_dir, found, identity)
            return False
        _remove_unfinished(data_dir, names)
    elif names != [] and names != [f".{NAME}.new"]:
        raise DataError(
            f"{data_dir}: not empty (has {names[0]}) and not made by gshard-prepare-data; "
            "give another --data_dir"
        )
    write_manifest(
        data_dir, {"format_version": FORMAT_VERSION, "finished": False, "identity": identity}
    )
    return True


def identity_of(config: DataConfig, recipe_fingerprint: str, tokenizer_hash: str) -> dict[str, Any]:
    """Returns all that prepared data depends on: settings that shape it, what the recipe says."""
    settings = dataclasses.asdict(config)
    cleaning = {f"cleaning.{key}": value for key, value in settings.pop("cleaning").items()}
    settings = {key: value for key, value in settings.items() if key not in _OTHER_KEYS}
    settings["tokenizer"] = tokenizer_hash  # wherever it lies
    return {**settings, **cleaning, "recipe": recipe_fingerprint}


def _read_any(path: pathlib.Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        manifest = None
    if not isinstance(manifest, dict) or "format_version" not in manifest:
        raise DataError(f"{path}: not a manifest of prepared data; give another --data_dir")
    return manifest


def _check_same(data_dir: pathlib.Path, found: dict[str, Any], identity: dict[str, Any]) -> None:
    if found["format_version"] != FORMAT_VERSION:
        raise DataError(
            f"{data_dir}: prepared in format {found['format_version']!r}, this is format "
            f"{FORMAT_VERSION}; give another --data_dir"
        )
    had = found.get("identity", {})
    keys = [key for key in sorted({*had, *identity}) if had.get(key) != identity.get(key)]
    if keys:
        changes = ", ".join(
            "the recipe" if key == "recipe" else f"data.{key} {had.get(key)} -> {identity.get(key)}"
            for key in keys
        )
        raise DataError(
            f"{data_dir}: holds data prepared otherwise ({changes}); give another --data_dir"
        )


def _remove_unfinished(data_dir: pathlib.Path, names: list[str]) -> None:
    for name in names:
        path = data_dir / name
        is_ours = name in ("tokenizer", "references", WORK) or _PAIR_FOLDER.fullmatch(name)
        if is_ours and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif name in (f".{NAME}.new", "report.md", "report.html"):
            path.unlink()
        elif name != NAME:
            raise DataError(
                f"{data_dir}: unfinished, and {name} in it is not of gshard-prepare-data; "
                "give another --data_dir"
            )
