"""`jsonl:` one JSON object per line, in a layout of rows.py; a glob matches several files."""
# SPDX-License-Identifier: Apache-2.0

import json
from collections.abc import Iterator

from gshard_mt.data.corpora.entry import Entry, Pair
from gshard_mt.data.corpora.files import find_files
from gshard_mt.data.corpora.rows import SHAPES, RowError, pairs_of, without_surrogates
from gshard_mt.data.corpora.tags import Tags
from gshard_mt.data.corpora.text_lines import read_lines
from gshard_mt.errors import DataError


def read_jsonl(entry: Entry) -> Iterator[Pair]:
    """Yields the pairs of every file of a glob; blank lines are skipped.

    Raises DataError with file:line for a line that isn't a JSON object or has another layout. Lone
    surrogates, as in "\\ud83d", become U+FFFD.
    """
    for path in find_files(entry):
        tags, has_pairs, number = Tags(entry.languages, path), False, 0
        for number, line in read_lines(path):
            if not line or line.isspace():
                continue
            try:
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise RowError(f"a JSON {type(row).__name__} is not a row; {SHAPES}")
                pairs = pairs_of(row, tags)
                if "\\u" in line:
                    pairs = [Pair(*map(without_surrogates, pair)) for pair in pairs]
                for pair in pairs:
                    has_pairs = True
                    yield pair
            except RowError as error:
                raise DataError(f"{path}:{number}: {error}") from None
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}:{number}: not JSON: {error}") from None
        if number and not has_pairs:
            raise tags.refusal()
