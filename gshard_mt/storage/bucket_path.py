"""Bucket paths: `gs://bucket/folder/name` and `s3://...` with the methods of `pathlib.Path`."""
# SPDX-License-Identifier: Apache-2.0

import fnmatch
import glob
import io
import os
import pathlib
import posixpath
import re
from collections.abc import Iterator
from typing import IO, Any

from gshard_mt.errors import StorageError
from gshard_mt.storage.stores import STORES, ObjectInfo, check_installed, request, to_info

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


class BucketPath(pathlib.PosixPath):
    """The name of an object, or of a folder: that of objects whose names begin with it and `/`.

    A write replaces the whole object or nothing. Folders are there as long as something is in them.
    Methods that are not here raise StorageError, because a bucket has none of what they do; so
    does whatever would open the path as a local one.
    """

    __slots__ = ()

    def __str__(self) -> str:
        scheme, *rest = self.parts or ("gs:",)  # none above a bucket
        return f"{scheme}//{'/'.join(rest)}"

    def __repr__(self) -> str:
        return f"BucketPath({str(self)!r})"

    def __fspath__(self) -> str:
        raise StorageError(f"{self}: in a bucket; accepted here: a local path")

    def as_posix(self) -> str:
        return str(self)

    def as_uri(self) -> str:
        return str(self)

    def is_absolute(self) -> bool:
        return True

    def absolute(self) -> "BucketPath":
        return self

    def resolve(self, strict: bool = False) -> "BucketPath":
        return self

    def expanduser(self) -> "BucketPath":
        return self

    def relative_to(self, other: Any, *_: Any, **__: Any) -> Any:
        parts = open_path(other).parts
        if self.parts[: len(parts)] != parts:
            raise ValueError(f"{self} is not in {other}")
        return pathlib.PurePosixPath(*self.parts[len(parts) :])

    def is_relative_to(self, other: Any, *_: Any) -> bool:
        parts = open_path(other).parts
        return self.parts[: len(parts)] == parts

    @property
    def key(self) -> str:
        """The name without its scheme, as the libraries want it: bucket/folder/name."""
        return "/".join(self.parts[1:])

    def describe(self) -> ObjectInfo:
        """Returns what the store says of an object or folder. Raises FileNotFoundError."""
        return request(str(self), lambda files, store: to_info(store, files.info(self.key)))

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Returns the size and the time of an object; all else is 0. Raises FileNotFoundError."""
        info = self.describe()
        times = {"st_mtime": info.modified, "st_mtime_ns": int(info.modified * 1e9)}
        return os.stat_result((0,) * 6 + (info.num_bytes, 0, int(info.modified), 0), times)

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        return self._is_folder() is not None

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return self._is_folder() is False

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return self._is_folder() is True

    def is_symlink(self) -> bool:
        return False

    def _is_folder(self) -> bool | None:
        try:
            return self.describe().is_folder
        except FileNotFoundError:
            return None

    def read_bytes(self) -> bytes:
        """Returns an object's content. Raises FileNotFoundError."""
        return request(str(self), lambda files, store: files.cat_file(self.key, **store.whole))

    def read_text(
        self, encoding: str | None = None, errors: Any = None, newline: Any = None
    ) -> str:
        return self.read_bytes().decode(encoding or "utf-8", errors or "strict")

    def open(self, mode: str = "r", *_: Any, **options: Any) -> IO[Any]:  # type: ignore[override]
        """Opens an object's whole content for reading, from memory."""
        if mode not in ("r", "rt", "rb"):
            raise StorageError(f"{self}: in a bucket, which can't be opened to write part of it")
        content = io.BytesIO(self.read_bytes())
        if mode == "rb":
            return content
        return io.TextIOWrapper(
            content,
            options.get("encoding") or "utf-8",
            options.get("errors"),
            options.get("newline"),
        )

    def write_bytes(self, data: Any) -> int:
        """Replaces an object, whole or not at all."""
        content = bytes(data)
        self._write(lambda files: files.pipe_file(self.key, content))
        return len(content)

    def write_text(
        self, data: str, encoding: str | None = None, errors: Any = None, newline: Any = None
    ) -> int:
        self.write_bytes(data.encode(encoding or "utf-8", errors or "strict"))
        return len(data)

    def create(self, content: bytes) -> bool:
        """Makes an object unless it exists; returns whether it did. Only one of several can.

        `content` is the caller's alone, because the answer to a request may get lost: then an
        object with this content is the one that was made.
        """
        try:
            self._write(lambda files: files.pipe_file(self.key, content, mode="create"))
            return True
        except FileExistsError:
            try:
                return self.read_bytes() == content
            except FileNotFoundError:
                return False

    def upload(self, file: pathlib.Path) -> None:
        """Replaces an object with a local file's content, whole or not at all."""
        self._write(lambda files: files.put_file(str(file), self.key))

    def download(self, file: pathlib.Path) -> None:
        """Writes an object's content to a local file. Raises FileNotFoundError."""
        request(str(self), lambda files, store: files.get_file(self.key, str(file)))

    def _write(self, write: Any) -> None:
        try:
            request(str(self), lambda files, store: write(files))
        except FileNotFoundError:
            raise StorageError(f"{'/'.join(str(self).split('/')[:3])}: no such bucket") from None

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Does nothing, as folders need not be made. Raises FileExistsError as pathlib does."""
        is_folder = None if exist_ok else self._is_folder()
        if is_folder is not None:
            raise FileExistsError(f"{self}: exists")

    def unlink(self, missing_ok: bool = False) -> None:
        """Deletes an object."""
        if not missing_ok and not self.is_file():
            raise FileNotFoundError(f"{self}: no such object")
        try:
            request(str(self), lambda files, store: files.rm_file(self.key))
        except FileNotFoundError:
            pass  # now it is not there

    def iterdir(self) -> Iterator["BucketPath"]:
        """Yields what is right in a folder, by name. Raises FileNotFoundError if it is empty."""
        infos = request(str(self), lambda files, store: files.ls(self.key, detail=True))
        names = {info["name"].rstrip("/") for info in infos} - {self.key}
        if not names and not self.is_dir():
            raise FileNotFoundError(f"{self}: no such folder")
        yield from (self / name.rpartition("/")[2] for name in sorted(names))

    def objects(self) -> dict["BucketPath", ObjectInfo]:
        """Returns all objects in a folder and its folders, by name; none if it isn't there."""

        def find(files: Any, store: Any) -> list[ObjectInfo]:
            try:
                found = files.find(self.key, detail=True)
            except FileNotFoundError:
                return []
            # A name with a slash at its end is a folder that some program has made.
            return [to_info(store, each) for name, each in found.items() if name[-1] != "/"]

        inside = f"{self.key}/"
        infos = [each for each in request(str(self), find) if each.name.startswith(inside)]
        infos.sort()
        return {self / info.name.removeprefix(inside): info for info in infos}

    def glob(self, pattern: Any, **_: Any) -> Iterator["BucketPath"]:  # type: ignore[override]
        """Yields objects and folders that match a pattern as `pathlib` does, by name."""
        wanted = [each for each in str(pattern).split("/") if each]
        names = set()
        for path in self.objects():
            parts = path.parts[len(self.parts) :]
            names |= {parts[:length] for length in range(1, len(parts) + 1)}
        yield from (self.joinpath(*name) for name in sorted(names) if _matches(name, wanted))

    def rglob(self, pattern: Any, **_: Any) -> Iterator["BucketPath"]:  # type: ignore[override]
        return self.glob(f"**/{pattern}")


def open_path(
    text: str | os.PathLike[str], folder: pathlib.Path | None = None, is_used: bool = True
) -> pathlib.Path:
    """Returns a path, in a folder if it is relative: a plain local one, or one in a bucket.

    Raises StorageError for any other scheme and, if it is used, for a bucket whose library is not
    installed.
    """
    if isinstance(text, BucketPath):
        return text
    name = os.fspath(text)
    if match := _SCHEME.match(name):
        scheme, rest = match[1].lower(), name[match.end() :]
        if scheme not in STORES:
            accepted = ", ".join(f"{each}://" for each in STORES)
            raise StorageError(f"{name}: found {match[0]}; accepted: {accepted} or a local path")
        if not rest.strip("/") or rest.startswith("/") or ".." in rest.split("/"):
            raise StorageError(f"{name}: accepted: {scheme}://BUCKET/FOLDER")
        if is_used:
            check_installed(scheme)
        return BucketPath(f"{scheme}:", *rest.split("/"))
    if re.match(rf"({'|'.join(STORES)}):/", name):
        raise StorageError(f"{name}: found one slash; accepted: {name.replace(':/', '://', 1)}")
    if isinstance(folder, BucketPath) and not name.startswith("/"):
        return BucketPath(folder.parts[0], *posixpath.normpath(f"{folder.key}/{name}").split("/"))
    return pathlib.Path(folder or "", name)


def find_paths(pattern: pathlib.Path) -> list[pathlib.Path]:
    """Returns what matches a path with wildcards, sorted; `**` is any number of folders."""
    if not isinstance(pattern, BucketPath):
        return sorted(map(pathlib.Path, glob.glob(str(pattern), recursive=True)))
    folder = pattern.parent
    while len(folder.parts) > 2 and glob.has_magic(str(folder)):
        folder = folder.parent
    return list(folder.glob(pattern.relative_to(folder)))


def _matches(name: tuple[str, ...], pattern: list[str]) -> bool:
    if not pattern:
        return not name
    if pattern[0] == "**":
        return any(_matches(name[start:], pattern[1:]) for start in range(len(name) + 1))
    return (
        bool(name) and fnmatch.fnmatchcase(name[0], pattern[0]) and _matches(name[1:], pattern[1:])
    )
