"""The table of source schemes: a new format is one file beside this one and one row here."""
# SPDX-License-Identifier: Apache-2.0

from typing import NamedTuple

from gshard_mt.data.corpora.entry import Reader
from gshard_mt.data.corpora.tsv import read_tsv
from gshard_mt.data.corpora.wheel import read_wheel


class Scheme(NamedTuple):
    """How a scheme is read, and whether one entry may name many languages (or `*`)."""

    read: Reader
    has_languages: bool = False


SCHEMES = {
    "tsv": Scheme(read_tsv),
    "wheel": Scheme(read_wheel, has_languages=True),
}
