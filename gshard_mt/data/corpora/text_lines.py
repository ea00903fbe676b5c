"""Streams the lines of UTF-8 text files, plain or compressed; errors name the line."""
# SPDX-License-Identifier: Apache-2.0

import codecs
import pathlib
from collections.abc import Iterator

from gshard_mt.data.corpora.files import open_bytes
from gshard_mt.errors import DataError

# A longer line is not a sentence, and compressed text may expand without limit.
MAX_LINE_BYTES = 1 << 20

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_lines(path: pathlib.Path) -> Iterator[tuple[int, str]]:
    """Yields (line number from 1, line without its end); compressed text is expanded.

    A byte order mark and CR LF are removed; control characters are kept. Raises DataError with
    file:line for a line that isn't UTF-8 or is longer than MAX_LINE_BYTES.
    """
    longest = MAX_LINE_BYTES + len(b"\r\n")
    number = 0
    with open_bytes(path) as file:
        while line := file.readline(longest):
            number += 1
            if number == 1:
                refuse_utf_16(line, path)
                line = line.removeprefix(codecs.BOM_UTF8)
            if len(line) >= MAX_LINE_BYTES and len(line.rstrip(b"\r\n")) > MAX_LINE_BYTES:
                raise DataError(f"{path}:{number}: a line of more than {MAX_LINE_BYTES} bytes")
            try:
                text = line.decode()
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{path}:{number}: not UTF-8 at byte {error.start + 1}; "
                    "convert the file to UTF-8"
                ) from None
            yield number, text.removesuffix("\n").removesuffix("\r")


def refuse_utf_16(start: bytes, path: pathlib.Path) -> None:
    """Raises DataError if the first bytes of a text look like UTF-16."""
    # Without a byte order mark, every other byte of Latin text is zero.
    is_striped = b"" in (start[:64:2].strip(b"\0"), start[1:64:2].strip(b"\0"))
    if start.startswith(_UTF_16) or (is_striped and len(start.strip(b"\0\r\n")) > 1):
        raise DataError(f"{path}:1: looks like UTF-16; convert the file to UTF-8")
