"""Trees: whole folders, local or in a bucket, removed or copied from one to the other."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from gshard_mt.storage.bucket_path import BucketPath

_AT_ONCE = 8  # requests


def remove_tree(folder: pathlib.Path) -> None:
    """Removes a folder with everything in it. Raises FileNotFoundError for a local one only."""
    if not isinstance(folder, BucketPath):
        shutil.rmtree(folder)
        return
    _each(lambda path: path.unlink(missing_ok=True), folder.objects())


def upload_tree(
    source: pathlib.Path,
    target: BucketPath,
    last: str = "",
    check: Callable[[], None] = lambda: None,
) -> None:
    """Copies a local folder into a bucket: first all but the file `last`, then, after `check`, it.

    `last` is what tells others that the folder is whole.
    """
    files = sorted(path for path in source.rglob("*") if path.is_file())
    names = [path.relative_to(source).as_posix() for path in files]
    _each(
        lambda name: (target / name).upload(source / name),
        [name for name in names if name != last],
    )
    check()
    if last in names:
        (target / last).upload(source / last)


def download_tree(source: BucketPath, target: pathlib.Path) -> None:
    """Copies a folder of a bucket into a local one. Raises FileNotFoundError if it isn't there."""
    objects = source.objects()
    if not objects:
        raise FileNotFoundError(f"{source}: no such folder")

    def fetch(path: BucketPath) -> None:
        file = target / path.relative_to(source)
        file.parent.mkdir(parents=True, exist_ok=True)
        path.download(file)

    _each(fetch, objects)


def _each(do: Callable[[Any], None], items: Iterable[Any]) -> None:
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for _ in threads.map(do, items):  # raises what a thread has raised
            pass
