"""The cache: copies that are checked, shared by processes, bounded, and as new as the object."""
# SPDX-License-Identifier: Apache-2.0

import os
import subprocess
import sys
import textwrap

import pytest

from gshard_mt.errors import StorageError
from gshard_mt.storage import cache
from gshard_mt.storage.bucket_path import BucketPath

KB = "0.000001"  # in GB


@pytest.fixture
def new_process(monkeypatch):
    """Returns a function after which this process uses nothing of the cache, as a new one."""

    def end() -> None:
        for file in cache._used.values():
            file.close()
        cache._used.clear()

    end()
    yield end
    end()


def test_a_local_path_is_left_as_it_is(tmp_path):
    assert cache.local_copy(tmp_path / "none") == tmp_path / "none"
    assert cache.local_folder(tmp_path / "none") == tmp_path / "none"


def test_an_object_is_fetched_once_and_again_when_it_changes(bucket, monkeypatch, new_process):
    fetched = count_downloads(monkeypatch)
    path = bucket / "folder/x.txt"
    path.write_bytes(b"old")
    first = cache.local_copy(path)
    new_process()
    assert cache.local_copies([path, path]) == [first, first]
    assert first.name == "x.txt" and first.read_bytes() == b"old" and fetched == ["x.txt"]
    path.write_bytes(b"new")
    assert cache.local_copy(path).read_bytes() == b"new"
    path.unlink()
    with pytest.raises(FileNotFoundError):
        cache.local_copy(path)
    with pytest.raises(FileNotFoundError):
        cache.local_folder(bucket / "none")


def test_a_folder_has_all_its_files(bucket):
    for name in ("a", "b/c"):
        (bucket / "x" / name).write_text(name)
    folder = cache.local_folder(bucket / "x")
    assert folder.name == "x"
    assert [(folder / name).read_text() for name in ("a", "b/c")] == ["a", "b/c"]
    (bucket / "x/a").write_text("new")
    assert (cache.local_folder(bucket / "x") / "a").read_text() == "new"


def test_damage_on_the_way_is_found(bucket, monkeypatch, new_process):
    (bucket / "x").write_bytes(b"right")
    download = BucketPath.download
    bad = [b"wrong", b"short"[:3]]

    def damage(self, file):
        download(self, file)
        if bad:
            file.write_bytes(bad.pop())

    monkeypatch.setattr(BucketPath, "download", damage)
    assert cache.local_copy(bucket / "x").read_bytes() == b"right"
    assert not bad
    (bucket / "y").write_bytes(b"right")
    bad += [b"1", b"2", b"3"]
    with pytest.raises(StorageError, match="another size or MD5"):
        cache.local_copy(bucket / "y")
    assert not list(cache.copies_folder().glob("*/.*"))


def test_the_cache_holds_no_more_than_it_may(bucket, monkeypatch, new_process):
    monkeypatch.setenv("GSHARD_MT_CACHE_GB", KB)
    for name in "abc":
        (bucket / name).write_bytes(os.urandom(400))
    a, b = (cache.local_copy(bucket / name) for name in "ab")
    with pytest.raises(StorageError, match="GB in use.*set GSHARD_MT_CACHE_GB"):
        cache.local_copy(bucket / "c")
    assert a.exists() and b.exists()
    new_process()
    os.utime(b, (0, 0))
    c = cache.local_copy(bucket / "c")
    assert a.exists() and c.exists() and not b.exists()
    # Another process uses a, so that only c can go, which no one uses.
    new_process()
    with using(bucket / "a"):
        b = cache.local_copy(bucket / "b")
    assert a.exists() and b.exists() and not c.exists()
    monkeypatch.setenv("GSHARD_MT_CACHE_GB", "much")
    with pytest.raises(StorageError, match="GSHARD_MT_CACHE_GB: found 'much'"):
        cache.local_copy(bucket / "c")


def test_a_cache_that_cannot_be_written_is_named(bucket, tmp_path):
    (tmp_path / "file").touch()
    (bucket / "x").write_bytes(b"x")
    with pytest.raises(OSError) as found:
        (bucket / "x").download(tmp_path / "file" / "x")
    assert found.value.filename.startswith(str(tmp_path / "file"))


def test_processes_share_what_one_has_fetched(bucket):
    (bucket / "x").write_bytes(os.urandom(100_000))
    processes = [using(bucket / "x") for _ in range(3)]
    try:
        assert len({process.path for process in processes}) == 1
        assert (cache.local_copy(bucket / "x")).read_bytes() == (bucket / "x").read_bytes()
    finally:
        for process in processes:
            process.__exit__()
    assert sum(file.is_file() for file in cache.copies_folder().glob("*/*")) == 1


class using:  # noqa: N801
    """A process that uses an object's copy until the end of a `with`."""

    def __init__(self, path):
        program = f"""
            import sys
            from gshard_mt.storage.bucket_path import open_path
            from gshard_mt.storage.cache import local_copy
            print(local_copy(open_path({str(path)!r})), flush=True)
            sys.stdin.read()
        """
        self._process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.path = self._process.stdout.readline().strip()  # type: ignore[union-attr]
        assert self.path

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.communicate()


def count_downloads(monkeypatch) -> list[str]:
    names = []
    download = BucketPath.download

    def count(self, file):
        names.append(self.name)
        download(self, file)

    monkeypatch.setattr(BucketPath, "download", count)
    return names
