"""The table of source schemes: a new format is one more module in this room and one row here."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
from collections.abc import Iterator
from typing import NamedTuple

from gshard_mt.data.corpora.catalogues import read_gettext
from gshard_mt.data.corpora.entry import Entry, Pair, Reader
from gshard_mt.data.corpora.jsonl import read_jsonl
from gshard_mt.data.corpora.moses import read_moses
from gshard_mt.data.corpora.tmx import read_tmx
from gshard_mt.data.corpora.tsv import read_tsv
from gshard_mt.data.corpora.wheel import read_wheel
from gshard_mt.errors import DataError
from gshard_mt.storage.bucket_path import find_paths, open_path


class Scheme(NamedTuple):
    """The reader of a scheme, and whether one entry may name several languages (or `*`)."""

    reader: Reader
    has_languages: bool = False

    def read(self, entry: Entry) -> Iterator[Pair]:
        """Yields the pairs of an entry. Raises DataError if there are none."""
        pairs = self.reader(entry)
        first = next(pairs, None)
        if first is None:
            raise DataError(f"{entry.scheme}:{entry.location}: no pairs in it")
        yield first
        yield from pairs


def _read_parquet(entry: Entry) -> Iterator[Pair]:
    from gshard_mt.data.corpora.parquet import read_parquet  # imports PyArrow

    return read_parquet(entry)


def _read_tfds(entry: Entry) -> Iterator[Pair]:
    from gshard_mt.data.corpora.tfds_datasets import read_tfds  # imports TFDS

    return read_tfds(entry)


SCHEMES = {
    "gettext": Scheme(read_gettext, has_languages=True),
    "jsonl": Scheme(read_jsonl, has_languages=True),
    "moses": Scheme(read_moses),
    "parquet": Scheme(_read_parquet, has_languages=True),
    "tfds": Scheme(_read_tfds, has_languages=True),
    "tmx": Scheme(read_tmx, has_languages=True),
    "tsv": Scheme(read_tsv),
    "wheel": Scheme(read_wheel, has_languages=True),
}

# Schemes that read files whose sizes tell how much there is to read.
_FILES = ("jsonl", "moses", "parquet", "tmx", "tsv")


def num_bytes(entry: Entry) -> int:
    """Returns the size on disk of an entry's files; 0 if unknown."""
    if entry.scheme not in _FILES:
        return 0
    return sum(path.stat().st_size for path in files_of(entry))


def files_of(entry: Entry) -> list[pathlib.Path]:
    """Returns the files on disk that an entry reads; none for what is known by another name."""
    locations = entry.location.split(",") if entry.scheme == "moses" else [entry.location]
    found: list[pathlib.Path] = []
    for path in (open_path(location.strip(), entry.folder) for location in locations):
        found += [path] if path.is_file() else find_paths(path)
    if entry.scheme not in _FILES:  # those read whole folders, too
        found += [inner for path in found if path.is_dir() for inner in sorted(path.rglob("*"))]
    return [path for path in found if path.is_file()]
