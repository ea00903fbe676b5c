"""Compression: recognizes compressed files by their first bytes and reads them to the last one."""
# SPDX-License-Identifier: Apache-2.0

import bz2
import gzip
import io
import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import IO, Any, NamedTuple, cast

import zstandard

READ_ERRORS = (
    EOFError,
    OSError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    zstandard.ZstdError,
)

CHUNK_BYTES = 1 << 17
# Bounds memory: a block of zstd, which expands to up to 128 KiB, may take only 4 bytes.
_COMPRESSED_BYTES = 1 << 11
_MAX_WINDOW_BYTES = 1 << 27  # as of `zstd --long`; a frame may ask for gigabytes
_MAX_XZ_BYTES = 1 << 28  # `xz -9` needs 65 MiB; a file may ask for gigabytes
_XZ_PADDING = 4  # zero bytes after an xz stream come in multiples of this
_END_BYTES = 22  # of a zip archive's last record, without its comment
_MAX_END_BYTES = _END_BYTES + 0xFFFF
_START_BYTES = 512  # enough to recognize any format
_MAX_NAMED = 3  # files of an archive to list in an error


class _Format(NamedTuple):
    suffix: str
    start: re.Pattern[bytes]  # its first bytes, if no text has them
    expand: Callable[[IO[bytes]], IO[bytes]]


def expand(file: IO[bytes], suffix: str) -> IO[bytes]:
    """Returns the content of a file of text, decompressed if its first bytes or suffix say so.

    A zip archive must hold one file. Damage, anything behind the last stream and content that is
    not text but another archive raise one of READ_ERRORS, here or while reading.
    """
    start = _peek(file)
    kind = _kind_of(start) or _kind_of_suffix(suffix)
    if kind is None:
        _refuse_others(start)
        return file
    if not start and kind != "zstd":  # zstd may have no frame
        raise EOFError(f"it is empty; accepted: a file in {kind} format")
    content = _FORMATS[kind].expand(file)
    if inner := _kind_of(start := _peek(content)):
        raise ValueError(f"there is a file in {inner} format in it; unpack it")
    _refuse_others(start)
    return content


def _peek(file: IO[bytes]) -> bytes:
    return cast(io.BufferedReader, file).peek(_START_BYTES)


def _kind_of(start: bytes) -> str | None:
    return next((name for name, each in _FORMATS.items() if each.start.match(start)), None)


def _kind_of_suffix(suffix: str) -> str | None:
    return next((name for name, each in _FORMATS.items() if each.suffix == suffix.lower()), None)


def _refuse_others(start: bytes) -> None:
    for kind, pattern in _OTHERS.items():
        if pattern.match(start):
            raise ValueError(f"it is a {kind}; accepted: text, plain or as {', '.join(_FORMATS)}")


def _open_zip(file: IO[bytes]) -> IO[bytes]:
    archive = zipfile.ZipFile(file)
    file.seek(-min(file.seek(0, io.SEEK_END), _MAX_END_BYTES), io.SEEK_END)
    end = file.read()
    end = end[end.rfind(b"PK\x05\x06") :]
    (length,) = struct.unpack_from("<H", end, _END_BYTES - 2)  # of a comment
    if num_bytes := len(end) - _END_BYTES - length:
        raise ValueError(f"there is more behind the end of a zip archive: {num_bytes} byte(s)")
    members = [
        member
        for member in archive.infolist()
        if not member.is_dir() and not member.filename.startswith("__MACOSX/")
    ]
    if len(members) != 1:
        names = ", ".join(member.filename[:80] for member in members[:_MAX_NAMED])
        more = ", ..." if len(members) > _MAX_NAMED else ""
        found = f"{len(members)} files ({names}{more})" if members else "no file"
        raise ValueError(f"a zip archive of {found}; accepted: of one; unpack it")
    try:
        return archive.open(members[0])
    except RuntimeError as error:  # encrypted, or compressed with a method that Python lacks
        raise ValueError(str(error)) from None


def _open_streams(file: IO[bytes], name: str, start: Callable[[], Any], padding: int = 0):
    return io.BufferedReader(_Streams(file, name, start, padding), CHUNK_BYTES)


class _Streams(io.RawIOBase):
    """Decompresses one stream (zstd: frame) after another.

    The file objects of bz2 and lzma take what they don't understand behind a stream for the end of
    the file; that of zstandard doesn't notice that a file is truncated.
    """

    def __init__(self, file: IO[bytes], name: str, start: Callable[[], Any], padding: int):
        self._file, self._name, self._start, self._padding = file, name, start, padding
        self._stream: Any = None
        self._has_stream = False  # at least one is complete
        self._num_zeros = 0  # behind the last one
        self._waiting = b""  # compressed
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        while not self._ready:
            if not (compressed := self._waiting or self._file.read(_COMPRESSED_BYTES)):
                self._check_end()
                return 0
            self._waiting = b""
            if not self._stream:
                if not (compressed := self._without_padding(compressed)):
                    continue
                self._stream = self._start()
            self._ready = memoryview(self._stream.decompress(compressed))
            if self._stream.eof:
                self._waiting, self._stream = self._stream.unused_data, None
                self._has_stream = True
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def _without_padding(self, compressed: bytes) -> bytes:
        if not (self._padding and self._has_stream):
            return compressed
        rest = compressed.lstrip(b"\0")
        self._num_zeros += len(compressed) - len(rest)
        if rest:
            self._check_end()
            self._num_zeros = 0
        return rest

    def _check_end(self) -> None:
        if self._stream:
            raise EOFError(f"the file ended in the middle of a {self._name} stream")
        if self._padding and self._num_zeros % self._padding:
            raise ValueError(
                f"{self._num_zeros} zero bytes behind a stream; "
                f"accepted by {self._name}: a multiple of {self._padding}"
            )


_FORMATS = {
    "gzip": _Format(".gz", re.compile(rb"\x1f\x8b"), lambda file: cast(IO[bytes], gzip.open(file))),
    "xz": _Format(
        ".xz",
        re.compile(rb"\xfd7zXZ\0"),
        lambda file: _open_streams(
            file,
            "xz",
            lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MAX_XZ_BYTES),
            _XZ_PADDING,
        ),
    ),
    "zstd": _Format(
        ".zst",
        re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"),  # a frame, or one to skip
        lambda file: _open_streams(
            file,
            "zstd",
            zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES).decompressobj,
        ),
    ),
    "bzip2": _Format(
        ".bz2",
        re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)"),  # a block, or the end of an empty file
        lambda file: _open_streams(file, "bzip2", bz2.BZ2Decompressor),
    ),
    "lzma": _Format(
        ".lzma",
        re.compile(rb"(?!)"),  # they are too few to tell
        lambda file: _open_streams(
            file,
            "lzma",
            lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_MAX_XZ_BYTES),
        ),
    ),
    "zip": _Format(".zip", re.compile(rb"PK(?:\x03\x04|\x05\x06)"), _open_zip),
}
SUFFIXES = frozenset(each.suffix for each in _FORMATS.values())

# Recognized only to be refused by name.
_OTHERS = {
    "7z archive": re.compile(rb"7z\xbc\xaf\x27\x1c"),
    "RAR archive": re.compile(rb"Rar!\x1a\x07"),
    "tar archive": re.compile(rb"(?s).{257}ustar"),
    "lz4 file": re.compile(rb"\x04\x22\x4d\x18"),
    "lzip file": re.compile(rb"LZIP\x01"),
    "file of Unix compress": re.compile(rb"\x1f\x9d"),
    "Parquet file": re.compile(rb"PAR1"),
    "PDF file": re.compile(rb"%PDF-"),
}
