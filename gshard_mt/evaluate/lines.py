"""Files of a sentence a line, as sacreBLEU reads them: translations and their references."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
import re
from collections.abc import Mapping, Sequence

from gshard_mt.errors import DataError

Lines = Mapping[str, Sequence[str]]  # a sentence a line, by pair


def one_line(text: str) -> str:
    """Returns a text whose line ends, as a JSON string may have them, are spaces."""
    return re.sub(r"\r\n|\r|\n", " ", text)


def write_lines(path: pathlib.Path, lines: Sequence[str]) -> None:
    """Writes every sentence and a line end behind it."""
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def read_lines(path: pathlib.Path, number: int) -> list[str]:
    """Reads so many lines. Raises DataError where they are not there, or others are."""
    try:
        lines = path.read_bytes().decode("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise DataError(
            f"{path}: can't be read ({reason}); accepted: a line for each of {number} sentences"
        ) from None
    if lines[-1] == "":
        lines.pop()
    if len(lines) != number:
        raise DataError(f"{path}: found {len(lines)} lines, accepted: {number}, one a sentence")
    return lines
