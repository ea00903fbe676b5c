"""A compressed file is read to its last byte, whatever its name, or refused."""
# SPDX-License-Identifier: Apache-2.0

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile

import pytest
import zstandard

from gshard_mt.errors import DataError
from tests.data.corpora import samples
from tests.data.corpora.samples import GERMAN, read

HALF = len(samples.tsv()) // 2
PARTS = (samples.tsv()[:HALF], samples.tsv()[HALF:])
ZEROS = bytes(16)


def zst(content: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(content)


def zipped(content: bytes) -> bytes:
    return samples.archive({"folder/": b"", "folder/a.tsv": content})


def alone(content: bytes) -> bytes:
    return lzma.compress(content, lzma.FORMAT_ALONE)


COMPRESS = {
    "gz": gzip.compress,
    "xz": lzma.compress,
    "zst": zst,
    "bz2": bz2.compress,
    "zip": zipped,
}


@pytest.mark.parametrize("name", ["a.tsv.{}", "a.tsv", "a", "A.TSV.{}", "a.txt", "a.gz"])
@pytest.mark.parametrize("kind", COMPRESS)
def test_the_first_bytes_tell_the_format_whatever_the_name(tmp_path, kind, name):
    name = name.format(kind.upper() if name.isupper() else kind)
    (tmp_path / name).write_bytes(COMPRESS[kind](samples.tsv()))
    assert read(tmp_path, "tsv", name) == GERMAN


@pytest.mark.parametrize(
    ("scheme", "content"), [("jsonl", samples.jsonl()), ("tmx", samples.tmx())]
)
@pytest.mark.parametrize("kind", COMPRESS)
def test_every_format_of_text_is_expanded(tmp_path, scheme, content, kind):
    (tmp_path / "a").write_bytes(COMPRESS[kind](content))
    assert read(tmp_path, scheme, "a") == GERMAN


def test_names_of_the_sides_are_seen_behind_a_suffix(tmp_path):
    for side, name in enumerate(("a.de.bz2", "a.en.ZIP")):
        kind = name[-3:].lower()
        (tmp_path / name).write_bytes(COMPRESS[kind](samples.column(side)))
    assert read(tmp_path, "moses", "a.de.bz2,a.en.ZIP") == GERMAN
    with pytest.raises(DataError, match="a.en.ZIP: comes first but is named English"):
        read(tmp_path, "moses", "a.en.ZIP,a.de.bz2")


def test_a_zip_archive_may_have_a_comment(tmp_path):
    file = io.BytesIO(zipped(samples.tsv()))
    with zipfile.ZipFile(file, "a") as archive:
        archive.comment = b"PK " * 200
    (tmp_path / "a.zip").write_bytes(file.getvalue())
    assert read(tmp_path, "tsv", "a.zip") == GERMAN


def test_lzma_is_known_by_its_suffix(tmp_path):
    (tmp_path / "a.tsv.lzma").write_bytes(alone(samples.tsv()))
    assert read(tmp_path, "tsv", "a.tsv.lzma") == GERMAN


def gz(content: bytes) -> bytes:
    """The same bytes at any time: they are in the name of a test."""
    return gzip.compress(content, mtime=0)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.xz", lzma.compress(PARTS[0]) + ZEROS[:4] + lzma.compress(PARTS[1]) + ZEROS[:12]),
        ("a.xz", lzma.compress(samples.tsv()) + bytes(4 * 5000)),
        ("a.xz", lzma.compress(b"") + ZEROS[:8] + lzma.compress(samples.tsv())),
        ("a.xz", lzma.compress(PARTS[0], check=lzma.CHECK_SHA256) + lzma.compress(PARTS[1])),
        ("a.gz", gz(PARTS[0]) + ZEROS[:3] + gz(PARTS[1]) + ZEROS[:7]),
        ("a.bz2", bz2.compress(PARTS[0]) + bz2.compress(b"") + bz2.compress(PARTS[1])),
        ("a.zst", zst(PARTS[0]) + b"\x50\x2a\x4d\x18\x02\0\0\0xy" + zst(PARTS[1])),
        ("a.zst", b"\x5f\x2a\x4d\x18\x02\0\0\0xy" + zst(samples.tsv())),
    ],
)
def test_streams_and_the_padding_that_a_format_allows_are_read(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert read(tmp_path, "tsv", name) == GERMAN


@pytest.mark.parametrize("kind", [*COMPRESS, "lzma"])
@pytest.mark.parametrize("behind", [b"garbage", b"\0\0\0x", b"a\tb\n" * 2000])
def test_garbage_behind_the_last_stream_is_refused(tmp_path, kind, behind):
    compress = {**COMPRESS, "lzma": alone}[kind]
    (tmp_path / f"a.{kind}").write_bytes(compress(samples.tsv()) + behind)
    with pytest.raises(DataError, match=f"a.{kind}: can't be read: "):
        read(tmp_path, "tsv", f"a.{kind}")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.xz", lzma.compress(PARTS[0]) + ZEROS[:3] + lzma.compress(PARTS[1]), "3 zero bytes"),
        (
            "a.xz",
            lzma.compress(samples.tsv()) + ZEROS[:6],
            "6 zero bytes behind a stream; accepted by xz: a multiple of 4",
        ),
        ("a.xz", ZEROS[:4] + lzma.compress(samples.tsv()), "Input format"),
        ("a.bz2", bz2.compress(PARTS[0]) + ZEROS + bz2.compress(PARTS[1]), "Invalid data stream"),
    ],
)
def test_padding_that_a_format_does_not_allow_is_refused(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}: can't be read: .*{said}"):
        read(tmp_path, "tsv", name)


@pytest.mark.parametrize("kind", [*COMPRESS, "lzma"])
def test_a_file_cut_short_anywhere_is_refused(tmp_path, kind):
    content = {**COMPRESS, "lzma": alone}[kind](b"ein Haus\ta house\n" * 500)
    for length in {0, 1, 5, 11, *range(15, len(content), 1 + len(content) // 30), len(content) - 1}:
        (tmp_path / f"a.{kind}").write_bytes(content[:length])
        with pytest.raises(DataError, match=f"a.{kind}: (can't be read|no pairs)") as caught:
            read(tmp_path, "tsv", f"a.{kind}")
        is_empty = "no pairs" in str(caught.value)
        assert is_empty == (kind == "zst" and length == 0)  # no frame is whole, too


@pytest.mark.parametrize("kind", ["xz", "bz2", "gz"])
def test_the_second_stream_may_not_be_cut_short_either(tmp_path, kind):
    one, two = (COMPRESS[kind](part) for part in PARTS)
    for length in range(1, len(two), 7):
        (tmp_path / f"a.{kind}").write_bytes(one + two[:length])
        with pytest.raises(DataError, match="can't be read"):
            read(tmp_path, "tsv", f"a.{kind}")


def _tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        info = tarfile.TarInfo("a.tsv")
        info.size = len(samples.tsv())
        archive.addfile(info, io.BytesIO(samples.tsv()))
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            samples.archive({"a.de": b"x", "a.en": b"y", "README": b"z", "LICENSE": b"w"}),
            r"a zip archive of 4 files \(a.de, a.en, README, ...\); accepted: of one; unpack it",
        ),
        (samples.archive({}), "a zip archive of no file"),
        (_tar(), "it is a tar archive; accepted: text, plain or as gzip, xz"),
        (gz(_tar()), "it is a tar archive"),
        (
            gz(lzma.compress(samples.tsv())),
            "there is a file in xz format in it; unpack it",
        ),
        (zipped(gz(samples.tsv())), "there is a file in gzip format in it"),
        (b"7z\xbc\xaf\x27\x1c\0\4" + bytes(30), "it is a 7z archive"),
        (b"Rar!\x1a\x07\x01\0" + bytes(30), "it is a RAR archive"),
        (b"\x04\x22\x4d\x18" + bytes(30), "it is a lz4 file"),
        (b"\x1f\x9d\x90" + bytes(30), "it is a file of Unix compress"),
        (samples.parquet(), "it is a Parquet file"),
    ],
)
def test_what_is_not_one_text_is_refused_by_name(tmp_path, content, said):
    (tmp_path / "a.tsv").write_bytes(content)
    with pytest.raises(DataError, match=f"a.tsv: can't be read: {said}"):
        read(tmp_path, "tsv", "a.tsv")


def test_records_of_tensorflow_are_not_taken_for_compressed_text(tmp_path):
    # The length of the first record looks like the start of a gzip file.
    from gshard_mt.data.corpora.tfrecord import read_records

    (tmp_path / "a").write_bytes(samples.tfrecord([b"x" * 0x8B1F]))
    assert [len(record) for record in read_records(tmp_path / "a")] == [0x8B1F]
