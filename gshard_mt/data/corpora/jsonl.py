"""`jsonl:` one JSON object per line, in a layout of rows.py; a glob matches several files."""
# SPDX-License-Identifier: Apache-2.0

import json
import pathlib
from collections.abc import Iterator
from typing import Any

from gshard_mt.data.corpora.entry import Entry, Pair
from gshard_mt.data.corpora.files import find_files
from gshard_mt.data.corpora.rows import SHAPES, read_rows
from gshard_mt.data.corpora.tags import Tags
from gshard_mt.data.corpora.text_lines import read_lines
from gshard_mt.errors import DataError


def read_jsonl(entry: Entry) -> Iterator[Pair]:
    """Yields the pairs of every file of a glob; blank lines and nulls are skipped.

    Raises DataError with file:line for a line that isn't a JSON object or has another layout. Lone
    surrogates, as in "\\ud83d", become U+FFFD.
    """
    for path in find_files(entry):
        yield from read_rows(read_objects(path), Tags(entry.languages, path))


def read_objects(path: pathlib.Path) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Yields `file:line` and the object of every line, None for a blank line or a null.

    Raises DataError for a line with anything else.
    """
    for number, line in read_lines(path):
        where = f"{path}:{number}"
        if not line or line.isspace():
            yield where, None
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: not JSON: {error}") from None
        if row is not None and not isinstance(row, dict):
            raise DataError(f"{where}: a JSON {type(row).__name__} is not a row; {SHAPES}")
        yield where, row
