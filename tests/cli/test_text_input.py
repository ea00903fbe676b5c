"""Lines come in windows: full ones from files, and from a pipe what it has sent so far."""
# SPDX-License-Identifier: Apache-2.0

import contextlib
import gzip
import os
import threading
import time
from collections.abc import Iterator
from typing import BinaryIO

import pytest

from gshard_mt.cli import text_input
from gshard_mt.cli.text_input import (
    InputShard,
    Source,
    check_text,
    open_sources,
    read_windows,
)
from gshard_mt.cli.text_output import open_output
from gshard_mt.errors import ConfigError, DataError


@pytest.fixture
def pipe() -> Iterator[tuple[Source, BinaryIO]]:
    """A pipe to read, and its other end."""
    reading, writing = os.pipe()
    with open(reading, "rb") as file, open(writing, "wb", buffering=0) as writer:
        yield Source("a pipe", file, True), writer


def test_a_pipe_that_waits_gets_what_it_has_sent(pipe):
    source, writer = pipe
    windows = read_windows([source], 100)
    writer.write("\ufeffeins\n".encode())
    assert next(windows) == ["eins"]
    writer.write(b"zwei\r\ndr")
    assert next(windows) == ["zwei"]
    threading.Timer(0.1, lambda: writer.write(b"ei\n\nvier")).start()
    assert next(windows) == ["drei", ""]
    writer.close()
    assert list(windows) == [["vier"]]


def test_a_pipe_with_enough_lines_gives_full_windows(pipe):
    source, writer = pipe
    lines = [f"line {number}" for number in range(5000)]

    def write() -> None:
        writer.write("".join(f"{line}\n" for line in lines).encode())
        writer.close()

    threading.Thread(target=write).start()
    time.sleep(0.2)
    windows = list(read_windows([source], 1000))
    assert [len(window) for window in windows] == [1000] * 5
    assert [line for window in windows for line in window] == lines


def test_a_pipe_that_never_pauses_waits_for_a_short_time_only(pipe):
    source, writer = pipe
    is_over = threading.Event()

    def write() -> None:
        while not is_over.wait(0.002):
            writer.write(b"again\n")

    thread = threading.Thread(target=write)
    thread.start()
    try:
        assert 1 < len(next(read_windows([source], 1_000_000))) < 1_000_000
    finally:
        is_over.set()
        thread.join()


def test_the_lines_before_one_that_is_not_utf_8_come_first(pipe):
    source, writer = pipe
    writer.write(b"eins\nzwei\ndr\xfci\nvier\n")
    windows = read_windows([source], 100)
    assert next(windows) == ["eins", "zwei"]
    with pytest.raises(DataError, match="a pipe:3: not UTF-8 at byte 3; convert"):
        next(windows)


def test_files_make_common_windows_and_may_be_compressed(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfeins\nzwei")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"\xef\xbb\xbfdrei\r\n\nf\x00\xc3\xbcnf\n"))
    (tmp_path / "c.txt").touch()
    with contextlib.ExitStack() as files:
        paths = [str(tmp_path / name) for name in ("a.txt", "b.txt.gz", "c.txt")]
        sources = open_sources(paths, files)
        check_text(sources)
        windows = list(read_windows(sources, 2))
    assert windows == [["eins", "zwei"], ["drei", ""], ["f\0ünf"]]


def test_a_shard_of_files_has_full_windows_however_slow_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(text_input, "MAX_GATHER_SECONDS", -1.0)
    (tmp_path / "a.txt").write_text("1\n2\n3\n4\n5\n")
    (tmp_path / "b.txt").write_text("6\n7\n8\n9\n10\n11")
    paths = [str(tmp_path / name) for name in ("a.txt", "b.txt")]

    def windows(*shard) -> list[list[str]]:
        with contextlib.ExitStack() as files:
            return list(read_windows(open_sources(paths, files), 2, *shard))

    assert windows(InputShard(2, 3)) == [["2", "5"], ["8", "11"]]
    assert windows(InputShard(2, 3), 2) == [["8", "11"]]
    assert windows(InputShard(3, 3), 1) == [["6", "9"]]
    assert windows(InputShard(3, 3), 3) == windows(InputShard(12, 12)) == []
    assert windows(InputShard(), 9) == [["10", "11"]]


def test_a_shard_of_a_pipe_gets_answers_when_it_waits(pipe):
    source, writer = pipe
    windows = read_windows([source], 100, InputShard(2, 2), 1)
    writer.write(b"1\n2\n3\n4\n5\n")
    assert next(windows) == ["4"]
    writer.write(b"6\n")
    writer.close()
    assert list(windows) == [["6"]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Guten Tag.".encode("utf-16"), ":1: looks like UTF-16"),
        ("Guten Tag.\n".encode("utf-16-be"), ":1: looks like UTF-16"),
        ("Добрый день.\n".encode("utf-16-le"), ":1: looks like UTF-16"),
        ("Guten Tag.\n".encode("utf-32"), ":1: looks like UTF-16"),
        ("eins\nGrüße\n".encode("cp1252"), ":2: not UTF-8 at byte 3"),
        ("こんにちは".encode("shift_jis"), ":1: not UTF-8 at byte 1"),
        ("eins\nzwei é".encode()[:-1], ":2: not UTF-8 at byte 6"),
        (b"eins\n\xed\xa0\x80\n", ":2: not UTF-8 at byte 1"),  # a surrogate
    ],
)
def test_a_file_in_another_encoding_is_refused_before_anything_is_translated(
    tmp_path, content, message
):
    path = tmp_path / "in.txt"
    path.write_bytes(content)
    with contextlib.ExitStack() as files:
        with pytest.raises(DataError) as error:
            check_text(open_sources([str(path)], files))
    assert str(error.value).startswith(f"{path}{message}")


def test_what_is_no_file_is_refused(tmp_path):
    for name in ("nothing.txt", ""):
        with contextlib.ExitStack() as files:
            with pytest.raises(ConfigError, match="--input: found .*, which can't be read"):
                open_sources([str(tmp_path / name)], files)


def test_text_in_a_bucket_is_read_and_an_output_there_is_refused(bucket):
    (bucket / "x.txt.gz").write_bytes(gzip.compress(b"eins\nzwei\n"))
    with contextlib.ExitStack() as files:
        sources = open_sources([f"{bucket}/x.txt.gz"], files)
        check_text(sources)
        assert list(read_windows(sources, 2)) == [["eins", "zwei"]]
        with pytest.raises(ConfigError, match=f"^--output: found {bucket}/y, accepted: a file on"):
            open_output(f"{bucket}/y", sources, files)
        with pytest.raises(ConfigError, match=f"--input: found {bucket}/none, which can't be read"):
            open_sources([f"{bucket}/none"], files)
    (bucket / "x.txt").write_bytes(b"eins\n\xff\n")
    with contextlib.ExitStack() as files:
        with pytest.raises(DataError, match=f"^{bucket}/x.txt:2: not UTF-8"):
            check_text(open_sources([f"{bucket}/x.txt"], files))
