"""Bucket paths behave as pathlib's, on both kinds of bucket; what can't be is refused."""
# SPDX-License-Identifier: Apache-2.0

import os
import pathlib
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from gshard_mt.documents import draft_of, read_json, write_json
from gshard_mt.errors import DataError, StorageError
from gshard_mt.storage import stores
from gshard_mt.storage.bucket_path import BucketPath, open_path
from gshard_mt.storage.trees import download_tree, remove_tree, upload_tree
from tests.making import buckets

PLACES = ("a.txt", "folder/b.txt", "folder/deep/c.txt", "folder/deep/ä [1] #2?.tsv")


def fill(folder: pathlib.Path) -> None:
    for name in PLACES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"content of {name}", encoding="utf-8")


def test_a_bucket_answers_as_a_local_folder_does(bucket, tmp_path):
    local = tmp_path / "local"
    for folder in (bucket, local):
        fill(folder)
        (folder / "a.txt").write_bytes(b"other")
    for name in (*PLACES, "folder", "folder/deep", "folder/dee", "none"):
        there, here = bucket / name, local / name
        assert (there.exists(), there.is_file(), there.is_dir()) == (
            here.exists(),
            here.is_file(),
            here.is_dir(),
        ), name
        if here.is_file():
            assert there.read_bytes() == here.read_bytes()
            assert there.stat().st_size == here.stat().st_size
            assert there.stat().st_mtime == pytest.approx(here.stat().st_mtime, abs=60)
    for pattern in ("*", "*.txt", "**/*.t*", "folder/*", "folder/**/c.txt", "no/*"):
        assert {str(path.relative_to(bucket)) for path in bucket.glob(pattern)} == {
            str(path.relative_to(local)) for path in local.glob(pattern)
        }, pattern
    assert [path.name for path in bucket.iterdir()] == ["a.txt", "folder"]
    assert [path.name for path in (bucket / "folder").rglob("*.txt")] == ["b.txt", "c.txt"]
    with (bucket / PLACES[1]).open(encoding="utf-8") as file:
        assert list(file) == ["content of folder/b.txt"]
    (bucket / "a.txt").unlink()
    (bucket / "a.txt").unlink(missing_ok=True)
    for attempt in ((bucket / "a.txt").unlink, (bucket / "a.txt").read_text, (bucket / "x").stat):
        with pytest.raises(FileNotFoundError):
            attempt()
    with pytest.raises(FileNotFoundError):
        list((bucket / "x").iterdir())


def test_whole_folders_go_up_and_down_and_away(bucket, tmp_path):
    fill(tmp_path / "up")
    fill(bucket / "neighbour")
    upload_tree(tmp_path / "up", bucket / "data", last="a.txt")
    download_tree(bucket / "data", tmp_path / "down")
    for name in PLACES:
        assert (tmp_path / "down" / name).read_text() == f"content of {name}"
    remove_tree(bucket / "data")
    assert not (bucket / "data").exists()
    assert len((bucket / "neighbour").objects()) == len(PLACES)


def test_only_one_of_many_creates_an_object(bucket):
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda n: (bucket / "lock").create(b"%d" % n), range(8)))
    assert sum(made) == 1
    assert (bucket / "lock").read_bytes() == b"%d" % made.index(True)


@pytest.mark.parametrize("status", [503, None])
def test_a_store_that_is_busy_or_silent_changes_nothing(bucket, monkeypatch, no_pauses, status):
    monkeypatch.setattr(stores, "_LONGEST_SILENCE", 2.0)
    scheme = bucket.parts[0][:2]
    with buckets.failing(buckets.server(scheme), 0.1, status) as url:
        for name, value in buckets.environment(scheme, url).items():
            monkeypatch.setenv(name, value)
        for number in range(8):
            path = bucket / str(number)
            assert path.create(b"own %d" % number)
            assert not path.create(b"other")
            path.write_bytes(b"x%d" % number)
        assert [path.read_bytes() for path in bucket.iterdir()] == sorted(
            [b"x%d" % number for number in range(8)]
        )
        remove_tree(bucket)
        assert not bucket.exists()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_store_that_stays_busy_is_named_in_one_line(
    bucket, monkeypatch, no_pauses, status, capfd
):
    scheme = bucket.parts[0][:2]
    with buckets.failing(buckets.server(scheme), rate=1, status=status) as url:
        for name, value in buckets.environment(scheme, url).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(StorageError, match=rf"^{bucket}/x: the store does not answer") as found:
            (bucket / "x").write_bytes(b"")
    assert "\n" not in str(found.value)
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2 and all(line.endswith("; trying again") for line in lines)


def test_a_bucket_that_is_not_there_is_named(bucket):
    other = open_path(f"{bucket.parts[0]}//no-such-bucket/x")
    assert not other.exists()
    with pytest.raises(StorageError, match=r"^..://no-such-bucket: no such bucket$"):
        other.write_bytes(b"")


def test_a_document_in_a_bucket_is_whole(bucket, tmp_path):
    write_json(bucket / "x.json", {"format_version": 3, "text": "ä"})
    assert read_json(bucket / "x.json", 3, DataError, "")["text"] == "ä"
    with pytest.raises(DataError, match="y.json: can't be read"):
        read_json(bucket / "y.json", 3, DataError, "")
    with draft_of(bucket / "z") as draft:
        draft.write_bytes(b"new")
        assert not (bucket / "z").exists()
    assert (bucket / "z").read_bytes() == b"new"
    with pytest.raises(ZeroDivisionError), draft_of(bucket / "z") as draft:
        draft.write_bytes(b"half")
        _ = 1 / 0
    assert (bucket / "z").read_bytes() == b"new"


def test_nothing_takes_a_bucket_for_a_local_folder(bucket, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (bucket / "x").write_bytes(b"")
    attempts = [
        lambda: open(bucket / "x"),
        lambda: os.makedirs(bucket),
        lambda: os.listdir(bucket),
        lambda: (bucket / "x").touch(),
        lambda: (bucket / "x").rename(tmp_path / "y"),
        lambda: (bucket / "x").replace(tmp_path / "y"),
        lambda: (bucket / "x").open("w"),
        lambda: (bucket / "x").chmod(0o600),
        lambda: (bucket / "x").symlink_to("y"),
    ]
    for attempt in attempts:
        with pytest.raises(StorageError, match=r"^..://.*in a bucket"):
            attempt()
    assert not (tmp_path / bucket.parts[0]).exists()


def test_paths_are_told_apart_by_their_scheme(bucket, tmp_path):
    name = str(bucket)
    assert str(open_path(name + "/")) == name
    assert isinstance(open_path(name), BucketPath)
    assert open_path(name, tmp_path) == bucket == open_path(bucket)
    assert open_path("x/y", bucket) == bucket / "x/y"
    assert open_path("../y", bucket) == bucket.parent / "y"
    assert type(open_path("/y", bucket)) is type(open_path("y")) is type(tmp_path)
    assert open_path("y", tmp_path) == tmp_path / "y"
    assert pickle.loads(pickle.dumps(bucket / "a b")) == bucket / "a b"
    assert (bucket / "x.tsv.gz").with_suffix("").name == "x.tsv"
    assert bucket.absolute() == bucket.resolve() == bucket
    assert (bucket / "x").is_relative_to(bucket) and not bucket.is_relative_to(tmp_path)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hdfs://host/d", "hdfs://host/d: found hdfs://; accepted: gs://, s3:// or a local path"),
        ("gs:/bucket/d", "gs:/bucket/d: found one slash; accepted: gs://bucket/d"),
        ("s3://", "s3://: accepted: s3://BUCKET/FOLDER"),
        ("gs:///d", "gs:///d: accepted: gs://BUCKET/FOLDER"),
        ("gs://b/../c", "gs://b/../c: accepted: gs://BUCKET/FOLDER"),
    ],
)
def test_other_schemes_are_refused_in_one_line(name, said):
    with pytest.raises(StorageError) as found:
        open_path(name)
    assert str(found.value) == said


@pytest.mark.parametrize(
    ("scheme", "package", "extra"), [("gs", "gcsfs", "gcs"), ("s3", "s3fs", "s3")]
)
def test_a_missing_extra_is_named(scheme, package, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(StorageError, match=rf"pip install 'gshard-mt\[{extra}\]'$"):
        open_path(f"{scheme}://bucket/d")
