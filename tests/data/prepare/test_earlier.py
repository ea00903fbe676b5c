"""Data with the tokenizer of earlier ones: no text changes sides between training and testing."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import json
import pathlib
import shutil

import pytest

from gshard_mt.config.records import DataConfig
from gshard_mt.data.prepare.beam.pipeline import beam_pipeline
from gshard_mt.data.prepare.earlier import find_earlier
from gshard_mt.data.prepare.prepare import prepare
from gshard_mt.data.prepared import Prepared, open_prepared
from gshard_mt.data.tokenizer import load_tokenizer
from gshard_mt.errors import DataError
from gshard_mt.evaluate.test_sets import HELD_OUT, Leak, TrainingData, find_leaks, held_out
from tests.making.made_up import (
    english_sentences,
    files_of,
    translated,
    write_lines,
    write_made_up,
    write_recipe,
)


@pytest.fixture(scope="module")
def old(tmp_path_factory) -> tuple[DataConfig, Prepared]:
    """Two languages, with a third of their text still to come."""
    folder = tmp_path_factory.mktemp("old")
    config = write_made_up(folder)
    write_text(folder, {"de": english_sentences()[:220], "fr": english_sentences()[:120]})
    prepare(config, folder / "data")
    return config, open_prepared(folder / "data")


def write_text(folder: pathlib.Path, texts: dict[str, list[str]]) -> str:
    for language, english in texts.items():
        lines = [f"{translated(each, language)}\t{each}" for each in english]
        write_lines(folder / f"{language}.tsv", lines)
    corpora = [
        {"language": language, "source": f"tsv:{language}.tsv", "license": "x"}
        for language in texts
    ]
    return str(write_recipe(folder, corpora))


@pytest.fixture
def more(old, tmp_path) -> DataConfig:
    """All text of the three, with the old tokenizer: the smallest language would draw others."""
    english = english_sentences()
    texts = {"de": english, "fr": english[:200], "lb": english[150:290]}
    recipe, seed = write_text(tmp_path, texts), 7
    return dataclasses.replace(old[0], recipe=recipe, tokenizer=str(old[1].directory), seed=seed)


def overlaps(test: Prepared, training: Prepared) -> set[Leak]:
    tokenizer, data = load_tokenizer(training.directory), TrainingData([training], is_whole=True)
    found = [find_leaks(held_out(test, split), data, tokenizer) for split in HELD_OUT]
    return {leak for leaks in found for leak in leaks.values()}


def test_no_text_changes_sides(old, more, tmp_path, capsys):
    _, before = old
    prepare(more, tmp_path / "data")
    after = open_prepared(tmp_path / "data")
    assert overlaps(after, before) == overlaps(before, after) == {Leak(0, 0)}
    assert [after.num_examples[pair]["test"] for pair in after.language_pairs] == [20] * 3
    assert "not found" not in capsys.readouterr().err
    # Without them both would happen.
    shutil.copytree(before.directory / "tokenizer", tmp_path / "run" / "tokenizer")
    alone = dataclasses.replace(more, tokenizer=str(tmp_path / "run"))
    prepare(alone, tmp_path / "alone")
    after = open_prepared(tmp_path / "alone")
    assert {Leak(0, 0)} not in (overlaps(after, before), overlaps(before, after))
    said = capsys.readouterr().err
    assert f"{tmp_path}/run/manifest.json: not found, so it is not known what was held out" in said
    # They can be named.
    named = dataclasses.replace(alone, held_out=str(before.directory))
    with pytest.raises(DataError, match=r"other settings \(data.held_out  -> "):
        prepare(named, tmp_path / "alone")
    prepare(named, tmp_path / "named")
    assert files_of(tmp_path / "named" / "references") == files_of(tmp_path / "data" / "references")


def test_beam_prepares_the_same(more, tmp_path):
    prepare(more, tmp_path / "local")
    prepare(more, tmp_path / "beam", beam_pipeline("DirectRunner"))
    assert files_of(tmp_path / "local") == files_of(tmp_path / "beam")


def test_text_that_an_earlier_model_has_seen_tests_nothing(old, tmp_path, capsys):
    """As what a teacher has written does: its sources are training text."""
    config, before = old
    tokenizer = load_tokenizer(before.directory)
    records = before.reader("de-en", "train").read(range(90))
    sources = tokenizer.decode_sources([each.source.tolist() for each in records])
    lines = [f"{source}\tthe cat {number}" for number, source in enumerate(sources)]
    write_lines(tmp_path / "de.tsv", lines)
    corpora = [{"language": "de", "source": "tsv:de.tsv", "license": "x"}]
    recipe = str(write_recipe(tmp_path, corpora))
    config = dataclasses.replace(config, recipe=recipe, tokenizer=str(before.directory))
    prepare(config, tmp_path / "data")
    assert open_prepared(tmp_path / "data").num_examples["de-en"]["test"] == 0
    assert "too little text that earlier data don't train on" in capsys.readouterr().err


def test_those_before_the_earlier_ones_count_too(old, more, tmp_path):
    prepare(more, tmp_path / "data")
    latest = dataclasses.replace(more, tokenizer=str(tmp_path / "data"))
    found = find_earlier(latest)
    expected = [open_prepared(tmp_path / "data"), old[1]]
    assert [each.fingerprint for each in found.data] == [each.fingerprint for each in expected]
    assert find_earlier(old[0]).data == () and find_earlier(old[0]).fingerprint() == ""


def test_data_of_an_older_version_are_finished(more, tmp_path):
    prepare(more, tmp_path / "data")
    path = tmp_path / "data" / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    del manifest["identity"]["held_out"], manifest["config"]["held_out"]
    path.write_text(json.dumps(manifest), encoding="utf-8")
    assert prepare(more, tmp_path / "data")[1]
