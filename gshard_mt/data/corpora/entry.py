"""An entry of a recipe and what its reader yields: pairs of a source sentence and its English."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

SPLITS = ("train", "dev", "test")


class Pair(NamedTuple):
    """One sentence and its English, as read; `language` is a tag as the corpus writes it."""

    language: str
    source: str
    english: str


@dataclass(frozen=True)
class Entry:
    """One [[corpus]] table: where text is, in which languages, for which split."""

    languages: tuple[str, ...]  # tags; ("*",) is every language the source has
    split: str
    scheme: str
    location: str  # what follows the scheme
    license: str
    sha256: str  # of a file to be fetched; "" where there is none
    folder: pathlib.Path  # relative locations start here

    @property
    def path(self) -> pathlib.Path:
        """The location as a path; an absolute one stays as it is."""
        return self.folder / self.location


Reader = Callable[[Entry], Iterator[Pair]]
