"""Lines of UTF-8 text files, plain or compressed, streamed, with the line at fault named."""
# SPDX-License-Identifier: Apache-2.0

import gzip
import io
import lzma
import pathlib
from collections.abc import Iterator
from typing import IO

import zstandard

from gshard_mt.errors import DataError

MAX_LINE_BYTES = 1 << 20  # a longer line is no sentence, and compressed text may expand without end


def read_lines(path: pathlib.Path) -> Iterator[tuple[int, str]]:
    """Yields (line number from 1, line without its end). `.gz`, `.xz`, `.zst` are read as they are.

    Raises DataError with file:line for a line that isn't UTF-8 or has more than MAX_LINE_BYTES.
    """
    try:
        with _open(path) as file:
            number = 0
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                yield number, _decode(line, path, number)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, EOFError, lzma.LZMAError, zstandard.ZstdError) as error:
        raise DataError(f"{path}: can't be read: {error}") from None


def _open(path: pathlib.Path) -> IO[bytes]:
    if path.suffix == ".gz":
        return gzip.open(path, "rb")  # type: ignore[return-value]
    if path.suffix == ".xz":
        return lzma.open(path, "rb")
    if path.suffix == ".zst":
        frames = zstandard.ZstdDecompressor().stream_reader(
            open(path, "rb"), read_across_frames=True, closefd=True
        )
        return io.BufferedReader(frames)  # type: ignore[arg-type]
    return open(path, "rb")


def _decode(line: bytes, path: pathlib.Path, number: int) -> str:
    if len(line) > MAX_LINE_BYTES:
        raise DataError(f"{path}:{number}: a line of more than {MAX_LINE_BYTES} bytes")
    try:
        text = line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}:{number}: not UTF-8 at byte {error.start + 1}; convert the file to UTF-8"
        ) from None
    return text.removesuffix("\n").removesuffix("\r")
