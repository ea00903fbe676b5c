"""Documents are written whole or not at all; what can't be read is refused in one line."""
# SPDX-License-Identifier: Apache-2.0

import os

import pytest

from gshard_mt.documents import in_one_line, read_json, write_json, write_whole
from gshard_mt.errors import DataError


def test_a_document_comes_back_as_it_was_written(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"format_version": 3, "name": "é"}, indent=1, ensure_ascii=False)
    assert path.read_text(encoding="utf-8") == '{\n "format_version": 3,\n "name": "é"\n}\n'
    assert read_json(path, 3, DataError, "write it again")["name"] == "é"


def test_a_write_that_fails_leaves_the_old_document_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    write_whole(path, "old")

    def fail(*_):
        raise OSError("the disk went away")

    with pytest.raises(TypeError):
        write_json(path, {1j})
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="the disk went away"):
        write_whole(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "can't be read (No such file or directory)"),
        (b'{"format', "not JSON (Unterminated string"),
        (b"\xff\xfe\xff", "not JSON ("),
        (b"[" * 100_000, "not JSON ("),
        (b"[]", "found format_version None, accepted: 3"),
        (b'{"format_version": 4}', "found format_version 4, accepted: 3"),
    ],
)
def test_other_documents_are_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_json(path, 3, DataError, "write it again")
    assert str(caught.value).startswith(f"{path}: {message}")
    assert str(caught.value).endswith("; write it again")
    assert "\n" not in str(caught.value)


def test_an_error_in_one_line_is_its_first_cause_and_bounded():
    try:
        try:
            raise ValueError("the\n  first")
        except ValueError as error:
            raise RuntimeError("the second") from error
    except RuntimeError as error:
        assert in_one_line(error) == "the first"
    assert in_one_line(KeyError()) == "KeyError"
    assert in_one_line(OSError(28, "No space left on device", "x")) == "No space left on device"
    long = in_one_line(ValueError("a" * 5000 + "z" * 5000))
    assert len(long) < 310 and long.startswith("a" * 100) and long.endswith("z" * 100)
