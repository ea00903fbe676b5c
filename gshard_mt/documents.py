"""Documents: small files written whole or not at all, and JSON read with its format version."""
# SPDX-License-Identifier: Apache-2.0

import contextlib
import json
import os
import pathlib
import tempfile
import uuid
from collections.abc import Iterator
from typing import Any

from gshard_mt.storage.bucket_path import BucketPath

_MAX_CHARACTERS = 300  # of an error message that a library wrote


@contextlib.contextmanager
def draft_of(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields another name to write a file under; it is renamed, so that none sees half of it.

    For a file in a bucket that is a local file, which is uploaded.
    """
    if isinstance(path, BucketPath):
        with tempfile.TemporaryDirectory(prefix="gshard-mt-") as folder:
            yield (local := pathlib.Path(folder, path.name))
            path.upload(local)
        return
    draft = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield draft
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def write_whole(path: pathlib.Path, text: str) -> None:
    """Writes a file so that readers, also those after a power cut, never see half of it."""
    if isinstance(path, BucketPath):
        path.write_text(text)
        return
    with draft_of(path) as draft, draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())  # else a power cut may leave the new name without content


def write_json(path: pathlib.Path, content: Any, **layout: Any) -> None:
    """Writes a JSON file whole or not at all; `layout` goes to `json.dumps`."""
    write_whole(path, json.dumps(content, **layout) + "\n")


def read_json(
    path: pathlib.Path, version: int, kind: type[Exception], remedy: str
) -> dict[str, Any]:
    """Returns the object in a JSON file of a format version.

    Raises an error of `kind` that ends with the remedy if the file is missing or anything else.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise kind(f"{path}: can't be read ({in_one_line(error)}); {remedy}") from None
    except (ValueError, RecursionError) as error:
        raise kind(f"{path}: not JSON ({in_one_line(error)}); {remedy}") from None
    return check_version(content, version, str(path), kind, remedy)


def check_version(
    content: Any, version: int, where: str, kind: type[Exception], remedy: str
) -> dict[str, Any]:
    """Returns an object whose `format_version` is the one given. Raises as `read_json`."""
    found = content.get("format_version") if isinstance(content, dict) else None
    if found != version:
        raise kind(f"{where}: found format_version {found}, accepted: {version}; {remedy}")
    return content


def in_one_line(error: BaseException) -> str:
    """Returns the message of an error, or of the first one that caused it, in one bounded line."""
    while error.__cause__ is not None:
        error = error.__cause__
    reason = getattr(error, "strerror", None) or str(error)
    text = " ".join(str(reason).split()) or type(error).__name__
    return text if len(text) <= _MAX_CHARACTERS else f"{text[:120]} … {text[-175:]}"
