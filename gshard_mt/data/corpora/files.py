"""Files of a corpus: found by path or glob, opened as bytes and decompressed."""
# SPDX-License-Identifier: Apache-2.0

import contextlib
import io
import pathlib
from collections.abc import Iterator
from typing import IO

from gshard_mt.data.corpora.compression import CHUNK_BYTES, READ_ERRORS, SUFFIXES, expand
from gshard_mt.data.corpora.entry import Entry
from gshard_mt.documents import in_one_line
from gshard_mt.errors import DataError
from gshard_mt.storage.bucket_path import find_paths
from gshard_mt.storage.cache import local_copy


def find_files(entry: Entry) -> list[pathlib.Path]:
    """Returns the files of a path or glob, sorted. Raises DataError if there is none."""
    if entry.path.is_file():
        return [entry.path]
    if entry.path.is_dir():
        raise DataError(f"{entry.path}: found a directory, accepted: a file or a glob of files")
    files = [path for path in find_paths(entry.path) if path.is_file()]
    if not files:
        raise DataError(f"{entry.path}: no such file")
    return files


@contextlib.contextmanager
def open_bytes(path: pathlib.Path, is_text: bool = True) -> Iterator[IO[bytes]]:
    """Opens a file for reading; text in gzip, xz, zstd, bzip2, lzma or a zip of one is expanded.

    Raises DataError if it can't be read, is truncated, or is text in another format than that of
    its suffix, or in one that can't be expanded.
    """
    try:
        with _open(path) as file, expand(file, path.suffix) if is_text else file as content:
            yield content
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise DataError(f"{path}: found a directory, accepted: a file") from None
    except READ_ERRORS as error:
        raise DataError(f"{path}: can't be read: {in_one_line(error)}") from None


def bare_name(path: pathlib.Path) -> str:
    """Returns the file's name without the suffix of a compression."""
    return path.stem if path.suffix.lower() in SUFFIXES else path.name


def num_bytes_read() -> int:
    """Returns how many bytes of files, as stored, this process has read so far."""
    return _CountedFile.num_bytes


def _open(path: pathlib.Path) -> IO[bytes]:
    return io.BufferedReader(_CountedFile(local_copy(path)), CHUNK_BYTES)


class _CountedFile(io.FileIO):
    num_bytes = 0  # of all files

    def readinto(self, buffer) -> int | None:
        size = super().readinto(buffer)
        _CountedFile.num_bytes += size or 0
        return size
