"""Whatever bytes a file has, its reader yields pairs of text or says in one line what is wrong."""
# SPDX-License-Identifier: Apache-2.0

import gzip
import lzma
import pathlib
import tempfile

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gshard_mt.data.corpora.entry import Pair
from gshard_mt.errors import DataError
from tests.data.corpora import samples
from tests.data.corpora.samples import PAIRS, read
from tests.data.corpora.zoo.datasets import SHARD, features, info

_EXAMPLES = [samples.example(de=source, en=english) for source, english in PAIRS]
_LOCALE = "x/locale/de/LC_MESSAGES/a"
_PLURALS = samples.po(
    'msgid "one"\nmsgid_plural "many"\nmsgstr[0] "ein"\nmsgstr[1] "viele"\n',
    '"Plural-Forms: nplurals=2; plural=(n != 1 && n % 10 > 2 ? 1 : 0);\\n"',
)

# name: scheme, location, the other files of the corpus, the file that is fuzzed, its good content
TARGETS = {
    "tsv": ("tsv", "f.tsv", {}, "f.tsv", samples.tsv()),
    "gz": ("tsv", "f.gz", {}, "f.gz", gzip.compress(samples.tsv())),
    "xz": ("tsv", "f.xz", {}, "f.xz", lzma.compress(samples.tsv())),
    "zst": ("tsv", "f.zst", {}, "f.zst", zstandard.ZstdCompressor().compress(samples.tsv())),
    "moses": ("moses", "f.de,a.en", {"a.en": samples.column(1)}, "f.de", samples.column(0)),
    "jsonl": ("jsonl", "f.jsonl", {}, "f.jsonl", samples.jsonl()),
    "tmx": ("tmx", "f.tmx", {}, "f.tmx", samples.tmx()),
    "parquet": ("parquet", "f.parquet", {}, "f.parquet", samples.parquet()),
    "parquet columns": (
        "parquet",
        "f.parquet",
        {},
        "f.parquet",
        samples.parquet({"de": ["Haus"] * 9, "en": ["house"] * 9}),
    ),
    "po": ("gettext", "f.po", {}, "f.po", samples.po()),
    "po plurals": ("gettext", "f.po", {}, "f.po", _PLURALS),
    "mo": ("gettext", "f.mo", {}, "f.mo", samples.mo()),
    "wheel": ("wheel", "f.whl", {}, "f.whl", samples.wheel()),
    "wheel of catalogues": (
        "gettext",
        "f.whl",
        {},
        "f.whl",
        samples.archive({f"{_LOCALE}.po": samples.po(), f"{_LOCALE}2.mo": samples.mo()}),
    ),
    "tfrecord": (
        "tfds",
        "t",
        {"t/dataset_info.json": info(fileFormat="tfrecord"), "t/features.json": features()},
        SHARD,
        samples.tfrecord(_EXAMPLES),
    ),
    "dataset_info": (
        "tfds",
        "t",
        {"t/features.json": features(), SHARD: samples.tfrecord(_EXAMPLES)},
        "t/dataset_info.json",
        info(fileFormat="tfrecord"),
    ),
    "features": (
        "tfds",
        "t",
        {
            "t/dataset_info.json": info(fileFormat="tfrecord"),
            SHARD: samples.tfrecord(_EXAMPLES),
        },
        "t/features.json",
        features(),
    ),
}


@st.composite
def mutated(draw, content: bytes) -> bytes:
    """The content with up to four bytes, runs or ends changed, taken out or put in."""
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(content)))
        kind = draw(st.sampled_from(["flip", "cut", "drop", "insert", "repeat"]))
        length = draw(st.integers(1, 40))
        if kind == "flip" and place < len(content):
            value = content[place] ^ draw(st.integers(1, 255))
            content = content[:place] + bytes([value]) + content[place + 1 :]
        elif kind == "cut":
            content = content[:place]
        elif kind == "drop":
            content = content[:place] + content[place + length :]
        elif kind == "insert":
            content = content[:place] + draw(st.binary(min_size=1, max_size=8)) + content[place:]
        else:
            content = content[:place] + content[max(0, place - length) :]
    return content


def _check(name: str, content: bytes) -> None:
    scheme, location, others, fuzzed, _ = TARGETS[name]
    with tempfile.TemporaryDirectory() as folder:
        for path, text in {**others, fuzzed: content}.items():
            (pathlib.Path(folder) / path).parent.mkdir(exist_ok=True)
            (pathlib.Path(folder) / path).write_bytes(text)
        try:
            for pair in read(pathlib.Path(folder), scheme, location):
                assert isinstance(pair, Pair) and all(type(text) is str for text in pair)
                "".join(pair).encode()  # no halves of characters
        except DataError as error:
            assert len(str(error).splitlines()) == 1


_QUICK = settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.mark.parametrize("name", TARGETS)
def test_the_good_file_is_read(tmp_path, name):
    scheme, location, others, fuzzed, good = TARGETS[name]
    for path, text in {**others, fuzzed: good}.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(text)
    assert read(tmp_path, scheme, location)


@pytest.mark.parametrize("name", TARGETS)
def test_a_damaged_file_is_read_or_refused(name):
    @_QUICK
    @given(mutated(TARGETS[name][-1]))
    def check(content):
        _check(name, content)

    check()


@pytest.mark.parametrize("name", TARGETS)
def test_random_bytes_are_read_or_refused(name):
    @settings(_QUICK, max_examples=60)  # most are refused at the first byte
    @given(st.one_of(st.binary(max_size=300), st.text(max_size=100).map(str.encode)))
    def check(content):
        _check(name, content)

    check()
