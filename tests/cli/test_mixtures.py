"""A run that goes on with other data, by the commands: it keeps its past and tells overlaps."""
# SPDX-License-Identifier: Apache-2.0

import json
import pathlib
import shutil

import pytest

from gshard_mt.data.prepared import open_prepared
from gshard_mt.data.tokenizer import load_tokenizer
from gshard_mt.evaluate import report
from tests.cli.calling import call, first_devices, refused
from tests.cli.test_commands import CONFIG
from tests.making.made_up import write_lines, write_made_up, write_recipe


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> pathlib.Path:
    """A run on three languages that went on with German; some of its new test set is old text."""
    folder = tmp_path_factory.mktemp("home")
    data = write_made_up(folder)
    (folder / "config.py").write_text(CONFIG.format(data=data), encoding="utf-8")
    run("prepare_data", folder, "old")
    run("train", folder, "old", "--workdir", folder / "run")
    write_lines(folder / "test.tsv", [*training_lines(folder / "old", "de-en", 3), "neu\tnew one"])
    german = {"language": "de", "license": "x"}
    corpora = [german | {"source": "tsv:de.tsv"}]
    corpora += [german | {"source": "tsv:test.tsv", "split": "test"}]
    (folder / "german").mkdir()
    for name in ("de.tsv", "test.tsv"):
        shutil.copy(folder / name, folder / "german" / name)
    recipe = write_recipe(folder / "german", corpora)
    flags = (f"--config.data.recipe={recipe}", f"--config.data.tokenizer={folder / 'old'}")
    run("prepare_data", folder, "new", *flags)
    return folder


def run(name: str, folder: pathlib.Path, data: str, *flags) -> str:
    """Calls a command that has to succeed; returns what it said."""
    done = call(name, "--config", folder / "config.py", "--data_dir", folder / data, *flags)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def training_lines(data_dir: pathlib.Path, pair: str, number: int) -> list[str]:
    """Source TAB English of the first training pairs."""
    tokenizer = load_tokenizer(data_dir)
    records = open_prepared(data_dir).reader(pair, "train").read(range(number))
    sources = tokenizer.decode_sources([each.source.tolist() for each in records])
    english = tokenizer.decode_targets([each.target.tolist() for each in records])
    return ["\t".join(each) for each in zip(sources, english, strict=True)]


@pytest.fixture(scope="module")
def said(home) -> str:
    """What training said when it went on with the new data; nothing but the flag is needed."""
    flags = ("--workdir", home / "run", "--config.train.num_steps=8")
    assert "--change_mixture" in refused(
        call("train", "--config", home / "config.py", "--data_dir", home / "new", *flags)
    )
    return run("train", home, "new", *flags, "--change_mixture")


def test_training_tells_of_new_test_text_that_was_trained_on(home, said):
    line = f"held out    test has training text of {home}/run: de-en 3 sources and 3 English of 4\n"
    assert line in said and line in (home / "run" / "train.log").read_text(encoding="utf-8")
    assert "held out    dev has" not in said  # those that were drawn respect the old splits
    begun = run("train", home, "new", "--workdir", home / "tuned", "--init_from", home / "run@4")
    assert line in begun
    assert "held out" not in run("train", home, "new", "--workdir", home / "tuned")  # resumed


def test_the_record_has_the_data_of_now_and_where_those_before_were(home, said):
    record = json.loads((home / "run" / "config.json").read_text(encoding="utf-8"))
    assert record["config"]["data"]["recipe"] == str(home / "german" / "recipe.toml")
    assert record["config"]["data"]["tokenizer"] == str(home / "old")
    assert list(record["earlier_data_dirs"].values()) == [str(home / "old")]


def test_the_run_still_knows_its_languages(home, said, tmp_path):
    flags = ("--workdir", home / "run", "--source_language", "fr")
    assert call("translate", *flags, input=b"nobody\n").returncode == 0
    assert "accepted: de, fr, lb" in refused(
        call("translate", *flags[:2], "--source_language", "xx", input=b"nobody\n")
    )
    with first_devices(1):
        done = call("export", "--workdir", home / "run", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr.decode()
    record = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))
    assert record["languages"] == ["de", "fr", "lb"]
    assert [each["last_step"] for each in record["earlier_data"]] == [4]


def evaluate(home: pathlib.Path, *flags) -> tuple[str, str]:
    done = call("evaluate", "--workdir", home / "run", *flags)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode(), done.stderr.decode()


def test_leaks_are_searched_in_all_data(home, said, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "write", lambda report, folder: folder / "report.html")
    write_lines(tmp_path / "french.tsv", training_lines(home / "old", "fr-en", 5))
    mine = ("--testset", f"fr-en={tmp_path / 'french.tsv'}")
    told = "in the training data: fr-en 5 sources and 5 English of 5\n"
    printed, errors = evaluate(home, *mine)
    assert told in printed and "not found" not in errors
    # The new test set is looked for in the old data, too; the other way round as well.
    printed, errors = evaluate(home)
    assert "in the training data: de-en 3 sources and 3 English of 4\n" in printed
    assert f"left out    fr-en, lb-en: in other data of {home}/run" in errors
    printed, _ = evaluate(home, "--data_dir", home / "old", "--split", "dev")
    assert "fr-en" in printed and "in the training data: none of these sentences\n" in printed
    # Data that were moved have to be named.
    moved = shutil.move(home / "old", tmp_path / "moved")
    try:
        printed, errors = evaluate(home, *mine)
        assert (
            "in the training data, as far as they were found: " in printed and told not in printed
        )
        assert f"not found   the data of {home}/run up to step 4 ({home}/old); --data_dir" in errors
        assert told in evaluate(home, *mine, "--data_dir", moved)[0]
        assert told in evaluate(home, *mine, "--data_dir", home / "new", "--data_dir", moved)[0]
        shutil.move(home / "new", tmp_path / "new")
        line = refused(call("evaluate", "--workdir", home / "run"))
        assert f"if the data of {home}/run were moved, give --data_dir" in line
    finally:
        shutil.move(moved, home / "old")
        if (tmp_path / "new").exists():
            shutil.move(tmp_path / "new", home / "new")
