"""Files of lines, packed or not, give the pairs that they hold, in order."""
# SPDX-License-Identifier: Apache-2.0

import gzip
import lzma

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from gshard_mt.data.corpora import catalogues
from gshard_mt.data.corpora.entry import Pair
from tests.data.corpora import samples
from tests.data.corpora.samples import GERMAN, read

COMPRESS = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}
FILES = {
    "tsv": ("a.tsv", samples.tsv()),
    "jsonl": ("a.jsonl", samples.jsonl()),
    "tmx": ("a.tmx", samples.tmx()),
}


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("scheme", FILES)
def test_a_file_and_a_glob_are_read_compressed_or_not(tmp_path, scheme, suffix):
    name, content = FILES[scheme]
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}{suffix}").write_bytes(COMPRESS[suffix](content))
    assert read(tmp_path, scheme, f"x/{name}{suffix}") == GERMAN
    assert read(tmp_path, scheme, f"*/{name}{suffix}") == GERMAN * 2


def test_frames_of_an_archive_follow_each_other(tmp_path):
    half = len(samples.tsv()) // 2
    for suffix, compress in COMPRESS.items():
        parts = compress(samples.tsv()[:half]) + compress(samples.tsv()[half:])
        (tmp_path / f"a.tsv{suffix}").write_bytes(parts)
        assert read(tmp_path, "tsv", f"a.tsv{suffix}") == GERMAN


@given(st.lists(st.binary(max_size=4000), max_size=5), st.integers(1, 22))
@settings(max_examples=40, deadline=None)
def test_any_bytes_come_out_of_zstd_as_they_went_in(tmp_path_factory, parts, level):
    path = tmp_path_factory.mktemp("zst") / "a.zst"
    parts = [b"x", *parts]  # what begins like a file of another format is refused
    compress = zstandard.ZstdCompressor(level=level).compress
    path.write_bytes(b"".join(compress(part * 100) for part in parts))
    with catalogues.open_bytes(path) as file:
        assert file.read() == b"".join(part * 100 for part in parts)


def test_a_byte_order_mark_and_windows_line_ends_are_no_text(tmp_path):
    content = b"\xef\xbb\xbf" + samples.tsv().replace(b"\n", b"\r\n")
    (tmp_path / "a.tsv").write_bytes(content)
    assert read(tmp_path, "tsv", "a.tsv") == GERMAN


def test_control_characters_are_left_to_cleaning(tmp_path):
    (tmp_path / "a.tsv").write_bytes("a\0b\x1b\u2028\x85\tx\x0b\x0c\n".encode())
    assert read(tmp_path, "tsv", "a.tsv") == [Pair("de", "a\0b\x1b\u2028\x85", "x\x0b\x0c")]


def test_a_line_of_one_mebibyte_is_read(tmp_path):
    long = "x" * ((1 << 20) - 2)
    (tmp_path / "a.tsv").write_text(f"{long}\ty\nb\tc\n")
    assert read(tmp_path, "tsv", "a.tsv") == [Pair("de", long, "y"), Pair("de", "b", "c")]


@pytest.mark.parametrize("suffix", COMPRESS)
def test_moses_files_are_read_side_by_side(tmp_path, suffix):
    for index, name in enumerate(("a.de", "a.en")):
        (tmp_path / f"{name}{suffix}").write_bytes(COMPRESS[suffix](samples.column(index)))
