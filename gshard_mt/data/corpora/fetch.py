"""Fetches a wheel from a package index once into the user's cache and verifies its hash."""
# SPDX-License-Identifier: Apache-2.0

import hashlib
import os
import pathlib
import re
import subprocess
import sys
import tempfile

from gshard_mt.errors import DataError
from gshard_mt.storage.cache import cache_folder, local_copy

_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9.+!]+)")
# The wheel is never run, so any interpreter's will do; new releases require new Pythons.
_PYTHON_VERSION = "3.14"
_TIMEOUT_SECONDS = 1800


def is_requirement(location: str) -> bool:
    """Tells whether a location is NAME==VERSION, not a path."""
    return _REQUIREMENT.fullmatch(location) is not None


def fetch_wheel(requirement: str, sha256: str) -> pathlib.Path:
    """Returns the path of the cached wheel with the given SHA-256, downloading it if necessary.

    Raises DataError if pip can't fetch it or the hash differs.
    """
    if not sha256:
        raise DataError(f"{requirement}: sha256 is missing; a fetched file needs one")
    cached = cache_folder() / f"{requirement}-{sha256[:16]}.whl"
    if cached.is_file():
        check_hash(cached, sha256)
        return cached
    cached.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cached.parent, prefix="fetch-") as folder:
        _download(requirement, pathlib.Path(folder))
        (wheel,) = pathlib.Path(folder).glob("*.whl")
        check_hash(wheel, sha256)
        os.replace(wheel, cached)
    return cached


def check_hash(path: pathlib.Path, sha256: str) -> None:
    """Raises DataError if the file's SHA-256 is not the recipe's."""
    with open(local_copy(path), "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256.lower():
        raise DataError(
            f"{path}: sha256 is {found}, the recipe expects {sha256}; "
            "delete the file to fetch it again, or correct sha256 in the recipe"
        )


def _download(requirement: str, folder: pathlib.Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--python-version", _PYTHON_VERSION]
    command += ["--dest", str(folder), requirement]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS)
        errors, failed = result.stderr, result.returncode != 0
    except subprocess.TimeoutExpired:
        errors, failed = f"ERROR: no answer in {_TIMEOUT_SECONDS} seconds", True
    if failed or len(list(folder.glob("*.whl"))) != 1:
        lines = [line for line in errors.splitlines() if line.startswith("ERROR")]
        said = lines[-1].removeprefix("ERROR:").strip() if lines else "no wheel came"
        raise DataError(
            f"{requirement}: pip can't download it ({said}); check the network and the "
            'package index, or name a copy of the file in its place: "wheel:path/to/file.whl"'
        )
