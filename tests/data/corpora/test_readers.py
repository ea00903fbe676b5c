"""Readers yield what a file holds, whatever it is packed in, and name the line at fault."""
# SPDX-License-Identifier: Apache-2.0

import gzip
import hashlib
import json
import lzma
import pathlib
import zipfile

import pytest
import zstandard

from gshard_mt.data.corpora import archive, fetch, text_lines
from gshard_mt.data.corpora.entry import Entry, Pair
from gshard_mt.data.corpora.files import num_bytes_read
from gshard_mt.data.corpora.moses import read_moses
from gshard_mt.data.corpora.readers import num_bytes
from gshard_mt.data.corpora.tsv import read_tsv
from gshard_mt.data.corpora.wheel import read_wheel
from gshard_mt.errors import DataError


def _entry(
    folder: pathlib.Path, location: str, languages=("de",), sha256="", scheme="tsv"
) -> Entry:
    return Entry(tuple(languages), "train", scheme, location, "x", sha256, folder)


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress)]
    + [(".zst", zstandard.ZstdCompressor().compress)],
)
def test_compressed_text_is_read_as_it_is(tmp_path, suffix, compress):
    path = tmp_path / f"a.tsv{suffix}"
    path.write_bytes(compress("\ufeffHaus\thouse\r\nÄrger\tanger".encode()))
    found = list(read_tsv(_entry(tmp_path, path.name)))
    assert found == [Pair("de", "Haus", "house"), Pair("de", "Ärger", "anger")]


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz", ".zst"])
def test_how_much_there_is_and_how_much_is_read_are_known(tmp_path, suffix):
    compress = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}
    compress[".zst"] = zstandard.ZstdCompressor().compress
    for name in ("a.de", "a.en"):
        (tmp_path / f"{name}{suffix}").write_bytes(compress[suffix](b"one line\n" * 20_000))
    entries = [
        _entry(tmp_path, f"a.de{suffix}, a.en{suffix}", scheme="moses"),
        _entry(tmp_path, "**/a.*", scheme="jsonl"),
        _entry(tmp_path, "a.whl", scheme="wheel"),
    ]
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert [num_bytes(entry) for entry in entries] == [size, size, 0]
    before = num_bytes_read()
    assert sum(1 for _ in read_moses(entries[0])) == 20_000
    assert num_bytes_read() - before == size


def test_a_glob_is_read_in_the_order_of_names(tmp_path):
    for name in ("b", "a", "c"):
        (tmp_path / f"{name}.tsv").write_text(f"{name}\tx\n")
    assert [pair.source for pair in read_tsv(_entry(tmp_path, "*.tsv"))] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a\tb\nno tab\n", r"a.tsv:2: found 1 columns, accepted: 2"),
        (b"a\tb\tc\n", r"a.tsv:1: found 3 columns"),
        (b"a\tb\n\xff\tb\n", r"a.tsv:2: not UTF-8 at byte 1"),
        (b"a\tb\n" + b"x" * 99, r"a.tsv:2: a line of more than 50 bytes"),
    ],
)
def test_a_bad_line_is_named(tmp_path, monkeypatch, content, said):
    monkeypatch.setattr(text_lines, "MAX_LINE_BYTES", 50)
    (tmp_path / "a.tsv").write_bytes(content)
    with pytest.raises(DataError, match=said):
        list(read_tsv(_entry(tmp_path, "a.tsv")))


@pytest.mark.parametrize("name", ["a.tsv.gz", "a.tsv.xz", "a.tsv.zst"])
def test_a_broken_archive_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"this is not compressed\n")
    with pytest.raises(DataError, match=f"{name}: can't be read"):
        list(read_tsv(_entry(tmp_path, name)))


@pytest.mark.parametrize("location", ["missing.tsv", "missing*.tsv"])
def test_a_missing_file_is_named(tmp_path, location):
    with pytest.raises(DataError, match="missing.*no such file"):
        list(read_tsv(_entry(tmp_path, location)))


_CATALOGUES = {
    "en": {"title": "Two words", "step": {"user": {"ok": "Yes"}}, "only": "English", "n": 3},
    "de": {"title": "Zwei Wörter", "step": {"user": {"ok": "Ja"}}, "extra": "Mehr"},
    "es-419": {"title": "Dos palabras"},
    "zh-Hans": {"title": "两个词"},
}


def _write_wheel(path: pathlib.Path, catalogues=None, **extra: str) -> str:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for locale, content in (catalogues or _CATALOGUES).items():
            text = content if isinstance(content, str) else json.dumps(content)
            archive.writestr(f"pkg/components/lamp/translations/{locale}.json", text)
        for name, text in extra.items():
            archive.writestr(name, text)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _wheel(folder, languages, sha256=""):
    return list(read_wheel(_entry(folder, "a.whl", languages, sha256, "wheel")))


def test_catalogues_are_aligned_by_key(tmp_path):
    sha256 = _write_wheel(tmp_path / "a.whl")
    assert _wheel(tmp_path, ["de"], sha256) == [
        Pair("de", "Zwei Wörter", "Two words"),
        Pair("de", "Ja", "Yes"),
    ]
    assert _wheel(tmp_path, ["es"]) == [Pair("es-419", "Dos palabras", "Two words")]
    assert {pair.language for pair in _wheel(tmp_path, ["*"])} == {"de", "es-419", "zh-Hans"}


def test_catalogues_of_a_wheel_may_have_any_tag(tmp_path, capsys):
    names = ["de_DE", "pt_BR", "zh_Hant", "sr@latin", "ca_ES_valencia", "sensor.de", "en_US"]
    _write_wheel(tmp_path / "a.whl", {name: {"a": name} for name in names})
    assert _wheel(tmp_path, ["*"]) == [Pair(name, name, "en_US") for name in sorted(names[:5])]
    assert "catalogues passed over: 1" in capsys.readouterr().err
    _write_wheel(tmp_path / "a.whl", {name: {"a": name} for name in ["EN-GB", "en", "de"]})
    assert _wheel(tmp_path, ["*"]) == [Pair("de", "de", "en")]


def test_a_wheel_with_another_hash_is_refused(tmp_path):
    found = _write_wheel(tmp_path / "a.whl")
    with pytest.raises(DataError, match=f"sha256 is {found}, the recipe expects {'0' * 64}"):
        _wheel(tmp_path, ["de"], "0" * 64)


def test_a_wheel_that_is_no_zip_is_refused(tmp_path):
    (tmp_path / "a.whl").write_text("hello")
    with pytest.raises(DataError, match="a.whl: not a readable wheel"):
        _wheel(tmp_path, ["de"])
    with pytest.raises(DataError, match="no such file"):
        _wheel(tmp_path / "nowhere", ["de"])


@pytest.mark.parametrize("content", ["{", "[" * 200_000, '{"a": "\\'])
def test_a_catalogue_that_is_no_json_is_named(tmp_path, content):
    _write_wheel(tmp_path / "a.whl", {"en": {"a": "b"}, "de": content})
    with pytest.raises(DataError, match=r"de.json: not a JSON catalogue"):
        _wheel(tmp_path, ["de"])


@pytest.mark.parametrize("limit", ["MAX_MEMBER_BYTES", "MAX_TOTAL_BYTES", "MAX_MEMBERS"])
def test_an_archive_without_end_is_refused(tmp_path, monkeypatch, limit):
    _write_wheel(tmp_path / "a.whl")
    monkeypatch.setattr(archive, limit, 2)
    with pytest.raises(DataError, match="accepted: 2|more than 2"):
        _wheel(tmp_path, ["de"])


def test_a_fetched_wheel_is_checked_and_kept(tmp_path, monkeypatch):
    sha256 = _write_wheel(tmp_path / "lamp-1.0-py3-none-any.whl")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    calls = []

    def download(requirement, folder):
        calls.append(requirement)
        _write_wheel(folder / "lamp-1.0-py3-none-any.whl")

    monkeypatch.setattr(fetch, "_download", download)
    entry = _entry(tmp_path, "lamp==1.0", ["de"], sha256, "wheel")
    if hashlib.sha256((tmp_path / "lamp-1.0-py3-none-any.whl").read_bytes()).hexdigest() == sha256:
        first = list(read_wheel(entry))
        assert first == list(read_wheel(entry)) and calls == ["lamp==1.0"]
    with pytest.raises(DataError, match="the recipe expects"):
        fetch.fetch_wheel("lamp==1.0", "0" * 64)
    assert len(list((tmp_path / "cache" / "gshard-mt").iterdir())) == 1


def test_a_failed_download_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(DataError, match=r"pip can't download it \(.+\); .*wheel:path/to/file.whl"):
        fetch.fetch_wheel("gshard-mt-no-such-package==1.0", "0" * 64)
    assert not list((tmp_path / "gshard-mt").iterdir())


def test_a_wheel_is_never_fetched_without_a_hash(tmp_path):
    with pytest.raises(DataError, match="sha256 is missing"):
        fetch.fetch_wheel("lamp==1.0", "")
