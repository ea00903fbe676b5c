"""`parquet:` tables in a layout of rows.py, streamed; a glob matches several files."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as kinds

from gshard_mt.data.corpora.entry import Entry, Pair
from gshard_mt.data.corpora.files import find_files
from gshard_mt.data.corpora.rows import SHAPES, SIDES, STRUCTS, read_rows
from gshard_mt.data.corpora.tags import ENGLISH, Tags
from gshard_mt.documents import in_one_line
from gshard_mt.errors import DataError
from gshard_mt.storage.cache import local_copy

_BATCH_ROWS = 1024  # rows in memory at a time
_BUFFER_BYTES = 1 << 20  # to read at a time of each column


def read_parquet(entry: Entry) -> Iterator[Pair]:
    """Yields the pairs of every file of a glob.

    Raises DataError with the columns found if they have none of the layouts.
    """
    for path in find_files(entry):
        tags = Tags(entry.languages, path)
        yield from read_rows(_rows(path, tags), tags)


def _rows(path: pathlib.Path, tags: Tags) -> Iterator[tuple[str, dict[str, Any]]]:
    number = 0
    try:
        with pq.ParquetFile(local_copy(path), pre_buffer=False, buffer_size=_BUFFER_BYTES) as file:
            columns = _columns(file.schema_arrow, tags, path)
            for batch in file.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}: row {number}", row
    except UnicodeDecodeError:
        raise DataError(f"{path}: after row {number}: text that is not UTF-8") from None
    except (pa.ArrowException, OSError, ValueError, TypeError, OverflowError) as error:
        raise DataError(f"{path}: not a readable Parquet file: {in_one_line(error)}") from None


def _columns(schema: pa.Schema, tags: Tags, path: pathlib.Path) -> list[str]:
    """Returns the columns to read: a struct of texts, source and target, or one per language."""
    for name in STRUCTS:
        if name in schema.names and kinds.is_struct(schema.field(name).type):
            return [name]
    texts = [name for name in schema.names if _is_text(schema.field(name).type)]
    if set(SIDES) <= set(texts):
        return list(SIDES)
    if not tags.is_any:
        coded = [name for name in texts if tags[name] is not None]
        roles = {tags[name] == ENGLISH for name in coded}
        if roles == {True, False}:
            return coded
    found = ", ".join(f"{field.name[:40]} ({str(field.type)[:60]})" for field in schema)
    wanted = "each" if tags.is_any else " or ".join(tags.languages[:12])
    raise DataError(
        f"{path}: no translations of {wanted} in its columns; found: {' '.join(found.split())}; "
        f"{SHAPES}"
    )


def _is_text(kind: pa.DataType) -> bool:
    if kinds.is_dictionary(kind):
        kind = kind.value_type
    return kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_string_view(kind)
