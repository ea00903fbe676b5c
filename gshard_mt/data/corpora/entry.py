"""An entry of a recipe, and the pairs of a source sentence and its English that readers yield."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from gshard_mt.storage.bucket_path import open_path

SPLITS = ("train", "dev", "test")


class Pair(NamedTuple):
    """A sentence and its English, as read; `language` is the tag that the corpus uses."""

    language: str
    source: str
    english: str


@dataclass(frozen=True)
class Entry:
    """One [[corpus]] table: the location of text, its languages and its split."""

    languages: tuple[str, ...]  # plain tags; ("*",) is every language of the source
    split: str
    scheme: str
    location: str  # what follows the scheme
    license: str
    sha256: str  # of a file to fetch; "" if there is none
    folder: pathlib.Path  # relative locations start here
    # Settings other than those of the config, such as `script`; `de.script` is for German alone.
    cleaning: tuple[tuple[str, bool | int], ...] = ()
    name: str = ""  # given in the recipe
    default_name: str = ""
    weight: float = 1.0  # of its training pairs within their language
    max_pairs: int = 0  # most training pairs of each language; 0: all

    @property
    def corpus_name(self) -> str:
        """What the corpus is called where it is given another weight."""
        return self.name or self.default_name

    @property
    def path(self) -> pathlib.Path:
        """The location as a path, relative to `folder` unless it is absolute."""
        return open_path(self.location, self.folder)


Reader = Callable[[Entry], Iterator[Pair]]
