"""Files of a corpus: found by path or glob, opened as bytes and decompressed."""
# SPDX-License-Identifier: Apache-2.0

import contextlib
import glob
import gzip
import io
import lzma
import pathlib
import zlib
from collections.abc import Iterator
from typing import IO

import zstandard

from gshard_mt.data.corpora.entry import Entry
from gshard_mt.documents import in_one_line
from gshard_mt.errors import DataError

COMPRESSED = (".gz", ".xz", ".zst")

_CHUNK_BYTES = 1 << 17
# Bounds memory: a block of zstd, which expands to up to 128 KiB, may take only 4 bytes.
_COMPRESSED_BYTES = 1 << 11
_MAX_WINDOW_BYTES = 1 << 27  # as of `zstd --long`; a frame may ask for gigabytes
_READ_ERRORS = (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error, zstandard.ZstdError)


def find_files(entry: Entry) -> list[pathlib.Path]:
    """Returns the files of a path or glob, sorted. Raises DataError if there is none."""
    if entry.path.is_file():
        return [entry.path]
    if entry.path.is_dir():
        raise DataError(f"{entry.path}: a directory; accepted: a file or a glob of files")
    paths = sorted(pathlib.Path(name) for name in glob.glob(str(entry.path), recursive=True))
    files = [path for path in paths if path.is_file()]
    if not files:
        raise DataError(f"{entry.path}: no such file")
    return files


@contextlib.contextmanager
def open_bytes(path: pathlib.Path) -> Iterator[IO[bytes]]:
    """Opens a file for reading; `.gz`, `.xz` and `.zst` are decompressed.

    Raises DataError if it can't be read, is truncated or isn't in the format of its suffix.
    """
    try:
        with _open(path) as file, _expand(file, path.suffix) as content:
            yield content
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise DataError(f"{path}: a directory; accepted: a file") from None
    except _READ_ERRORS as error:
        raise DataError(f"{path}: can't be read: {in_one_line(error)}") from None


def bare_name(path: pathlib.Path) -> str:
    """Returns the file's name without the suffix of a compression."""
    return path.stem if path.suffix in COMPRESSED else path.name


def num_bytes_read() -> int:
    """Returns how many bytes of files, as stored, this process has read so far."""
    return _CountedFile.num_bytes


def _open(path: pathlib.Path) -> IO[bytes]:
    return io.BufferedReader(_CountedFile(path), _CHUNK_BYTES)


def _expand(file: IO[bytes], suffix: str) -> IO[bytes]:
    if suffix == ".gz":
        return gzip.open(file, "rb")  # type: ignore[return-value]
    if suffix == ".xz":
        return lzma.open(file, "rb")
    if suffix == ".zst":
        return io.BufferedReader(_ZstdFile(file), _CHUNK_BYTES)
    return file


class _CountedFile(io.FileIO):
    num_bytes = 0  # of all files

    def readinto(self, buffer) -> int | None:
        size = super().readinto(buffer)
        _CountedFile.num_bytes += size or 0
        return size


class _ZstdFile(io.RawIOBase):
    """Decompresses one frame after another.

    zstandard's own stream reader doesn't notice that a file is truncated.
    """

    def __init__(self, file: IO[bytes]):
        self._file = file
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._waiting = b""  # compressed
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        while not self._ready:
            if not (compressed := self._waiting or self._file.read(_COMPRESSED_BYTES)):
                if self._frame:
                    raise EOFError("the file ends in the middle of a zstd frame")
                return 0
            self._frame = self._frame or self._decompressor.decompressobj()
            self._waiting = b""
            self._ready = memoryview(self._frame.decompress(compressed))
            if self._frame.eof:
                self._waiting, self._frame = self._frame.unused_data, None
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size
