"""Streams the lines of UTF-8 text files, plain or compressed; errors name the line."""
# SPDX-License-Identifier: Apache-2.0

import codecs
import pathlib
from collections.abc import Iterator

from gshard_mt.data.corpora.files import open_bytes
from gshard_mt.errors import DataError

# A longer line is not a sentence, and compressed text may expand without limit.
MAX_LINE_BYTES = 1 << 20

_HIGHEST_BLOCK = 8  # scripts up to Arabic are below U+0900
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
            if len(line) >= MAX_LINE_BYTES and len(line.rstrip(b"\r\n")) > MAX_LINE_BYTES:
                raise DataError(f"{path}:{number}: a line of more than {MAX_LINE_BYTES} bytes")
            yield number, decode_line(line, number, path)


def decode_line(line: bytes, number: int, path: pathlib.Path | str) -> str:
    """Returns a line as text, without its end and without a byte order mark before the first one.

    Raises DataError with file:line if it isn't UTF-8.
    """
    if number == 1:
        refuse_utf_16(line, path)
        line = line.removeprefix(codecs.BOM_UTF8)
    try:
        return line.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}:{number}: not UTF-8 at byte {error.start + 1}; convert the file to UTF-8"
        ) from None


def refuse_utf_16(start: bytes, path: pathlib.Path | str) -> None:
    """Raises DataError if the first bytes of a text look like UTF-16."""
    # Without a byte order mark, every other byte of Latin text is zero, of Cyrillic text 4 ...
    stripes = start[:64:2], start[1:64:2]
    is_striped = any(not each.strip(b"\0") for each in stripes)
    is_striped |= any(len(each) > 3 and max(each) <= _HIGHEST_BLOCK for each in stripes)
    if start.startswith(_UTF_16) or (is_striped and len(start.strip(b"\0\r\n")) > 1):
        raise DataError(f"{path}:1: looks like UTF-16; convert the file to UTF-8")
