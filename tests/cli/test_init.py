"""gshard-init lays files whose commands can be typed at once."""
# SPDX-License-Identifier: Apache-2.0

import itertools

import pytest

from gshard_mt.cli.sample_text import LANGUAGES, sample_pairs
from gshard_mt.config.checks import check
from gshard_mt.config.load import load_config
from gshard_mt.data.corpora.recipe import load_recipe
from tests.cli.calling import call, refused


def test_files_to_start_from_are_laid_and_the_commands_are_said(tmp_path):
    folder = tmp_path / "to try"
    done = call("init", folder)
    assert done.returncode == 0 and not done.stderr
    commands = [line.strip() for line in done.stdout.decode().splitlines() if line[:4] == "    "]
    assert commands[0] == f"cd '{folder}'"
    names = ("gshard-prepare-data", "gshard-train", "gshard-eval")
    assert [line.split()[0] for line in commands[1:4]] == list(names)
    assert commands[4].startswith("echo ") and " | gshard-translate --workdir run" in commands[4]
    config = load_config(folder / "config.py")
    check(config)
    recipe = load_recipe(folder / "recipe.toml")
    assert config.data.recipe == str(folder / "recipe.toml")
    assert {entry.languages for entry in recipe.entries} == {(each,) for each in LANGUAGES}
    for entry in recipe.entries:
        assert (folder / entry.location).read_text(encoding="utf-8").count("\n") == 2000


def test_files_of_the_user_are_not_written_over(tmp_path):
    (tmp_path / "config.py").write_text("mine")
    line = refused(call("init", tmp_path))
    assert line == (
        f"error: {tmp_path}: exists and is not empty; accepted: a new or an empty folder\n"
    )
    assert (tmp_path / "config.py").read_text() == "mine"
    assert "exists and is not empty" in refused(call("init", tmp_path / "config.py"))
    assert refused(call("init")) == "error: FOLDER: missing (see --help)\n"
    assert "two: unexpected argument" in refused(call("init", tmp_path / "one", "two"))
    assert [path.name for path in tmp_path.iterdir()] == ["config.py"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_pairs_of_the_sample_are_different_and_the_same_each_time(language):
    pairs = sample_pairs(language, 2000)
    assert len(set(pairs)) == len({english for _, english in pairs}) == 2000
    assert pairs == sample_pairs(language, 2000)
    sentences = itertools.chain.from_iterable(pairs)
    assert all(text[0].isupper() and text.endswith(".") and len(text) > 20 for text in sentences)


def test_a_bucket_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = refused(call("init", "gs://bucket/try"))
    assert line == "error: gs://bucket/try: in a bucket; accepted: a folder on a disk\n"
    assert not list(tmp_path.iterdir())
