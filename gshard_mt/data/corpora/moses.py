"""`moses:` two files with one sentence per line; line n of the second is the English of line n."""
# SPDX-License-Identifier: Apache-2.0

import itertools
import pathlib
from collections.abc import Iterator

from gshard_mt.data.corpora.entry import Entry, Pair
from gshard_mt.data.corpora.files import bare_name
from gshard_mt.data.corpora.text_lines import read_lines
from gshard_mt.errors import DataError
from gshard_mt.storage.bucket_path import open_path


def read_moses(entry: Entry) -> Iterator[Pair]:
    """Yields the pairs of `SOURCE_FILE,ENGLISH_FILE`.

    Raises DataError if the files differ in length or the English file comes first.
    """
    (language,) = entry.languages
    names = entry.location.split(",")
    if len(names) != 2 or not all(names):
        raise DataError(
            f"moses:{entry.location}: found {len(names)} files, accepted: 2, "
            "SOURCE_FILE,ENGLISH_FILE"
        )
    source, english = (open_path(name.strip(), entry.folder) for name in names)
    if bare_name(source).endswith(".en") and not bare_name(english).endswith(".en"):
        raise DataError(f"{source}: comes first but is named English; put the source first")
    for source_line, english_line in aligned_lines(source, english):
        yield Pair(language, source_line, english_line)


def aligned_lines(first: pathlib.Path, second: pathlib.Path) -> Iterator[tuple[str, str]]:
    """Yields line n of both files. Raises DataError with both counts if they differ."""
    lines = [read_lines(first), read_lines(second)]
    number = 0
    for one, other in itertools.zip_longest(*lines):
        if one is None or other is None:
            longer = sum(1 for _ in lines[one is None]) + number + 1
            counts = (number, longer) if one is None else (longer, number)
            raise DataError(
                f"{first}: {counts[0]} lines, but {second} has {counts[1]}; accepted: equal counts"
            )
        number += 1
        yield one[1], other[1]
