"""The manifest of a prepared directory: its content, its origin, and whether it is finished."""
# SPDX-License-Identifier: Apache-2.0

import contextlib
import dataclasses
import fcntl
import os
import pathlib
import re
import sys
from collections.abc import Iterator
from typing import Any

from gshard_mt.config.records import DataConfig
from gshard_mt.documents import read_json, write_json
from gshard_mt.errors import DataError
from gshard_mt.storage.trees import remove_tree

FORMAT_VERSION = 1
NAME = "manifest.json"
WORK = ".work"  # temporary files of an unfinished preparation
LOCK = ".lock"  # held while a directory is prepared

_PAIR_FOLDER = re.compile(r"[a-z]{2,3}(_[A-Z][a-z]{3})?-en")
_DRAFT = re.compile(rf"{re.escape(NAME)}\.\w+\.tmp")  # of `documents.write_whole`
# Settings of the augmentation that change it: the tokenizers are trained on such text, too.
VOCABULARY_KEYS = ("upper_case", "title_case")
# Settings that do not change the prepared data.
_OTHER_KEYS = {"recipe", "temperature", "num_workers", "max_drop_share"}


def read_manifest(data_dir: pathlib.Path) -> dict[str, Any]:
    """Returns the manifest of a finished directory. Raises DataError for any other."""
    path = data_dir / NAME
    manifest = read_json(path, FORMAT_VERSION, DataError, "make it with gshard-prepare-data")
    if manifest.get("finished") is not True:
        raise DataError(f"{path}: preparation was not finished; run gshard-prepare-data again")
    return manifest


def write_manifest(data_dir: pathlib.Path, manifest: dict[str, Any]) -> None:
    """Writes the manifest atomically."""
    write_json(data_dir / NAME, manifest, indent=1, sort_keys=True, ensure_ascii=False)


def is_prepared(data_dir: pathlib.Path, identity: dict[str, Any]) -> bool:
    """Tells whether a directory holds finished data of `identity`; makes it if there is none.

    Raises DataError if it holds data prepared with other settings.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        if not (data_dir / NAME).exists():
            return False
    except OSError as error:
        raise DataError(
            f"{data_dir}: can't be used as a data directory: {error.strerror}"
        ) from None
    found = read_json(data_dir / NAME, FORMAT_VERSION, DataError, "give another --data_dir")
    if found.get("finished") is not True:
        return False
    check_same(data_dir, found, identity)
    return True


@contextlib.contextmanager
def lock_directory(data_dir: pathlib.Path) -> Iterator[None]:
    """Waits until no other process prepares a directory; the lock ends with the process."""
    path = data_dir / LOCK
    while True:
        with path.open("a") as file:
            _lock(file.fileno(), data_dir)
            if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                try:
                    yield
                finally:
                    path.unlink()
                return
        # The other process has removed the file, so the lock was of nothing.


def claim_directory(data_dir: pathlib.Path, identity: dict[str, Any]) -> None:
    """Empties a directory for `identity`: the remains of an unfinished preparation are removed.

    Raises DataError if the directory holds anything else.
    """
    inside = data_dir.iterdir() if data_dir.exists() else ()  # an empty folder of a bucket isn't
    names = sorted({path.name for path in inside} - {LOCK})
    if NAME in names:
        _remove_unfinished(data_dir, names)
    elif foreign := [name for name in names if not _DRAFT.fullmatch(name)]:
        raise DataError(
            f"{data_dir}: not empty (has {foreign[0]}) and not made by gshard-prepare-data; "
            "give another --data_dir"
        )
    write_manifest(
        data_dir, {"format_version": FORMAT_VERSION, "finished": False, "identity": identity}
    )


def check_same(data_dir: pathlib.Path, found: dict[str, Any], identity: dict[str, Any]) -> None:
    """Raises DataError if a manifest is of another identity."""
    had = found.get("identity", {})
    keys = [key for key in sorted({*had, *identity}) if had.get(key) != identity.get(key)]
    is_reused = had.get("tokenizer") or had.get("extend_tokenizer")
    if is_reused and "held_out" not in had:  # older versions didn't look at the other's splits
        keys = [key for key in keys if key != "held_out"]
    if keys:
        changes = ", ".join(
            "the recipe" if key == "recipe" else f"data.{key} {had.get(key)} -> {identity.get(key)}"
            for key in keys
        )
        raise DataError(
            f"{data_dir}: holds data prepared with other settings ({changes}); "
            "give another --data_dir"
        )


def identity_of(
    config: DataConfig, recipe_fingerprint: str, tokenizer_hash: str, held_out: str
) -> dict[str, Any]:
    """Returns everything that prepared data depends on: the relevant settings and the recipe.

    `tokenizer_hash` is of the other data whose tokenizer is reused or extended, `held_out` of those
    whose splits are respected, if there are any.
    """
    settings = dataclasses.asdict(config)
    cleaning = {f"cleaning.{key}": value for key, value in settings.pop("cleaning").items()}
    augmentation = settings.pop("augmentation")
    cased = {
        f"augmentation.{name}": augmentation[name] for name in VOCABULARY_KEYS if augmentation[name]
    }
    settings = {key: value for key, value in settings.items() if key not in _OTHER_KEYS}
    for key in ("tokenizer", "extend_tokenizer"):
        settings[key] = tokenizer_hash if settings[key] else ""  # not its path
    is_another_tokenizer = bool(config.tokenizer or config.extend_tokenizer)
    settings["held_out"] = held_out  # not their paths
    if not held_out and not is_another_tokenizer:
        del settings["held_out"]
    for key in ("case_marks", "extend_tokenizer"):
        if not settings[key]:  # as in data from before there was such a key
            del settings[key]
    return {**settings, **cleaning, **cased, "recipe": recipe_fingerprint}


def _lock(file: int, data_dir: pathlib.Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"{data_dir}: waiting for the gshard-prepare-data that prepares it", file=sys.stderr)
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        print(
            f"{data_dir}: its file system has no locks ({error.strerror}); make sure that no other "
            "gshard-prepare-data uses it",
            file=sys.stderr,
        )


def _remove_unfinished(data_dir: pathlib.Path, names: list[str]) -> None:
    for name in names:
        path = data_dir / name
        is_ours = name in ("tokenizer", "references", WORK) or _PAIR_FOLDER.fullmatch(name)
        if is_ours and path.is_dir() and not path.is_symlink():
            remove_tree(path)
        elif name in ("report.md", "report.html") or _DRAFT.fullmatch(name):
            path.unlink()
        elif name != NAME:
            raise DataError(
                f"{data_dir}: unfinished, and {name} in it was not made by gshard-prepare-data; "
                "give another --data_dir"
            )
