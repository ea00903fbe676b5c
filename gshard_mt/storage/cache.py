"""The cache: local copies of objects in buckets, shared by the processes of a machine.

Its folder is GSHARD_MT_CACHE, or gshard-mt/buckets in XDG_CACHE_HOME or ~/.cache. Whatever has not
been used for longest is removed before it would hold more than GSHARD_MT_CACHE_GB, 50 by default.
"""
# SPDX-License-Identifier: Apache-2.0

import contextlib
import fcntl
import hashlib
import os
import pathlib
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO

from gshard_mt.errors import StorageError
from gshard_mt.storage.bucket_path import BucketPath
from gshard_mt.storage.stores import ObjectInfo

_DEFAULT_GB = 50.0
_NUM_TRIES = 3
_AT_ONCE = 8

# The files that this process uses, locked until it ends so that no other removes them.
_used: dict[pathlib.Path, IO[bytes]] = {}
# What threads of this process fetch, with its size.
_coming: dict[pathlib.Path, int] = {}
_coming_lock = threading.Lock()


def cache_folder() -> pathlib.Path:
    """Returns the folder of fetched files: gshard-mt in XDG_CACHE_HOME or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "gshard-mt"


def local_copy(path: pathlib.Path) -> pathlib.Path:
    """Returns a local path as it is, and of an object in a bucket a local file of its content.

    The file is as new as the object, has the size and MD5 that the store says, and stays there
    until the process ends. Raises FileNotFoundError, or StorageError if the cache has no room.
    """
    return local_copies([path])[0]


def local_copies(paths: Sequence[pathlib.Path]) -> list[pathlib.Path]:
    """Does the same for several files, at the same time."""
    if not any(isinstance(path, BucketPath) for path in paths):
        return list(paths)
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        return list(threads.map(_local_copy, paths))


def local_folder(path: pathlib.Path) -> pathlib.Path:
    """Returns a local folder as it is, and of one in a bucket a local folder of its objects.

    Raises FileNotFoundError if nothing is in it.
    """
    if not isinstance(path, BucketPath):
        return path
    objects = path.objects()
    if not objects:
        raise FileNotFoundError(f"{path}: no such folder")
    versions = [f"{info.name} {info.version} {info.num_bytes}" for info in objects.values()]
    folder = copies_folder() / f"{_hash(str(path), *versions)}.folder" / path.name
    files = local_copies(list(objects))
    for copy, original in zip(files, objects, strict=True):
        link = folder / original.relative_to(path)
        link.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            link.symlink_to(copy)
    return folder


def stage_folder(purpose: str) -> pathlib.Path:
    """Returns a folder for work on its way to a bucket, the same one for the same purpose."""
    folder = copies_folder() / f"{_hash(purpose)}.stage"
    folder.mkdir(exist_ok=True)
    return folder


def _local_copy(path: pathlib.Path) -> pathlib.Path:
    if not isinstance(path, BucketPath):
        return path
    info = path.describe()
    if info.is_folder:
        raise IsADirectoryError(f"{path}: a folder")
    file = copies_folder() / _hash(str(path), info.version, str(info.num_bytes)) / path.name
    if file in _used:
        return file
    file.parent.mkdir(parents=True, exist_ok=True)
    with _lock_of(file).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # waits for another process or thread that fetches it
        if not file.is_file() or file.stat().st_size != info.num_bytes:
            with _room_for(file, info.num_bytes):
                _fetch(path, info, file)
        os.utime(file)  # used now
        _use(file)
    return file


def _fetch(path: BucketPath, info: ObjectInfo, file: pathlib.Path) -> None:
    """Downloads an object and checks it."""
    draft = _draft_of(file)
    found = ""
    for _ in range(_NUM_TRIES):
        path.download(draft)
        before = found
        with draft.open("rb") as content:
            found = hashlib.file_digest(content, "md5").hexdigest()
        # S3 calls something else MD5 for encrypted objects: the same, then, came twice.
        is_right = not info.md5 or found in (info.md5, before)
        if draft.stat().st_size == info.num_bytes and is_right:
            os.replace(draft, file)
            return
    draft.unlink()
    raise StorageError(
        f"{path}: what came has another size or MD5 than the store says; run the same command again"
    )


@contextlib.contextmanager
def _room_for(file: pathlib.Path, num_bytes: int) -> Iterator[None]:
    """Removes what has not been used for longest. Raises StorageError if all is in use."""
    most = _max_bytes()
    with _coming_lock:
        files = _all_files()
        total = sum(size for _, size, _ in files) + sum(_coming.values())
        for _, size, other in files:
            if total + num_bytes <= most:
                break
            if other not in _used and _remove(other):
                total -= size
        if total + num_bytes > most:
            raise StorageError(
                f"{copies_folder()}: {total / 1e9:.3g} GB in use, {num_bytes / 1e9:.3g} GB more is "
                f"over {most / 1e9:.3g} GB; set GSHARD_MT_CACHE_GB, or GSHARD_MT_CACHE to another "
                "folder"
            )
        _coming[file] = num_bytes
    try:
        yield
    finally:
        with _coming_lock:
            del _coming[file]


def _all_files() -> list[tuple[float, int, pathlib.Path]]:
    """Returns time of last use, size and path of what is in the cache, sorted."""
    files = []
    for file in copies_folder().glob("*/*"):
        with contextlib.suppress(FileNotFoundError):  # another process has just removed it
            found = file.stat()
            if file.is_file() and file not in map(_draft_of, _coming):
                files.append((found.st_mtime, found.st_size, file))
    return sorted(files)


def _remove(file: pathlib.Path) -> bool:
    """Removes a file unless a process uses or fetches it."""
    try:
        with _lock_of(file).open("a") as lock, file.open("rb") as content:
            for each in (lock, content):
                fcntl.flock(each, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.unlink()
    except BlockingIOError:
        return False
    except FileNotFoundError:
        pass  # another process has just removed it
    return True


def _use(file: pathlib.Path) -> None:
    content = file.open("rb")
    fcntl.flock(content, fcntl.LOCK_SH)
    _used[file] = content


def _lock_of(file: pathlib.Path) -> pathlib.Path:
    return file.parent.with_suffix(".lock")


def _draft_of(file: pathlib.Path) -> pathlib.Path:
    return file.with_name(f".{file.name}.part")


def copies_folder() -> pathlib.Path:
    """Returns the folder for what is in buckets, which exists."""
    given = os.environ.get("GSHARD_MT_CACHE")
    folder = pathlib.Path(given) if given else cache_folder() / "buckets"
    folder.mkdir(parents=True, exist_ok=True)
    return folder.absolute()


def _max_bytes() -> float:
    text = os.environ.get("GSHARD_MT_CACHE_GB") or str(_DEFAULT_GB)
    try:
        most = float(text)
    except ValueError:
        most = -1.0
    if not most > 0:
        raise StorageError(f"GSHARD_MT_CACHE_GB: found {text!r}; accepted: a number above 0")
    return most * 1e9


def _hash(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
