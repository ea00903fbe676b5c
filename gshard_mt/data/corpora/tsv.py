"""`tsv:` lines of source TAB English; a glob matches several files."""
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Iterator

from gshard_mt.data.corpora.entry import Entry, Pair
from gshard_mt.data.corpora.files import find_files
from gshard_mt.data.corpora.text_lines import read_lines
from gshard_mt.errors import DataError


def read_tsv(entry: Entry) -> Iterator[Pair]:
    """Yields the pairs of every file of a glob, in order of name.

    Raises DataError with file:line for a line without exactly two columns.
    """
    (language,) = entry.languages
    for path in find_files(entry):
        for number, line in read_lines(path):
            columns = line.split("\t")
            if len(columns) != 2:
                raise DataError(
                    f"{path}:{number}: found {len(columns)} columns, accepted: 2, source TAB "
                    "English"
                )
            yield Pair(language, *columns)
