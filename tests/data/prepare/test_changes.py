"""Corpus files that changed after they were prepared are said, whatever their format."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import json
import os
import pathlib
import time

import pytest

from gshard_mt.config.records import DataConfig
from gshard_mt.data.manifest import NAME
from gshard_mt.data.prepare.changes import describe_changes

RECIPE = """
[[corpus]]
language = "de"
source = "tsv:*.tsv"
license = "x"
[[corpus]]
language = "de"
source = "moses:a.de, a.en"
license = "x"
[[corpus]]
language = "de"
source = "gettext:locale"
license = "x"
"""
FILES = ["a.tsv", "b.tsv", "a.de", "a.en", "locale/de/a.po"]


@pytest.fixture
def config(tmp_path) -> DataConfig:
    for name in [*FILES, "keep.txt"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("Haus\thouse\n")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    manifest = {"format_version": 1, "finished": True}
    corpora = [{"bytes": 22}, {"bytes": 22}, {"bytes": 0}]
    (tmp_path / "data").mkdir()
    text = json.dumps(manifest | {"recipe": {"corpora": corpora}})
    (tmp_path / "data" / NAME).write_text(text)
    settings = {"recipe": str(tmp_path / "recipe.toml"), "keep_out": str(tmp_path / "keep*")}
    return dataclasses.replace(DataConfig(), **settings)


def _touch(path: pathlib.Path, seconds: float) -> None:
    when = time.time() + seconds
    os.utime(path, (when, when))


def test_nothing_is_said_if_nothing_changed(config, tmp_path):
    for name in FILES:
        _touch(tmp_path / name, -60)
    assert describe_changes(config, tmp_path / "data") == ""


@pytest.mark.parametrize("name", [*FILES, "keep.txt"])
def test_a_file_that_is_newer_is_named(config, tmp_path, name):
    _touch(tmp_path / name, 60)
    said = describe_changes(config, tmp_path / "data")
    assert f"{tmp_path / name} changed after this was prepared, and text is not compared" in said
    assert "another --data_dir" in said and len(said.splitlines()) == 1


def test_an_older_file_of_another_size_is_found(config, tmp_path):
    (tmp_path / "a.en").write_text("home\n")
    _touch(tmp_path / "a.en", -60)
    assert "moses:a.de, a.en changed" in describe_changes(config, tmp_path / "data")


def test_more_files_are_counted_and_deleted_ones_are_no_change(config, tmp_path):
    _touch(tmp_path / "a.tsv", 60)
    _touch(tmp_path / "a.de", 60)
    assert f"{tmp_path / 'a.tsv'} and 1 more changed" in describe_changes(config, tmp_path / "data")
    for name in FILES:
        (tmp_path / name).unlink()
    assert describe_changes(config, tmp_path / "data") == ""
