"""Noise is added to the share asked for, as labelled, the same each time; filters are counted."""
# SPDX-License-Identifier: Apache-2.0

import importlib.util
import pathlib
import subprocess
import sys

import pytest

from gshard_mt.config.records import CleaningConfig
from gshard_mt.data.corpora.recipe import load_recipe
from gshard_mt.errors import ConfigError

SCRIPTS = pathlib.Path(__file__).parents[2] / "scripts"
KINDS = ("misaligned", "wrong_language", "copied", "truncated", "swapped")


def _load(name: str):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def noise():
    return _load("add_noise")


@pytest.fixture(scope="module")
def counting():
    return _load("count_noise_found")


@pytest.fixture
def corpus(tmp_path) -> pathlib.Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    german = [f"Das sind hier {n} große Häuser am See\tThese are {n} houses" for n in range(100)]
    french = [f"Voici les {n} maisons près du lac\tHere are {n} homes" for n in range(50)]
    (folder / "deu-en.train.tsv").write_text("".join(f"{line}\n" for line in german))
    (folder / "fra-en.train.tsv").write_text("".join(f"{line}\n" for line in french))
    (folder / "deu-en.dev.tsv").write_text("Ein Haus\tA house\n")
    return folder


def _add(source: pathlib.Path, target: pathlib.Path, *words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, SCRIPTS / "add_noise.py", source, target, *words]
    return subprocess.run(command, capture_output=True, text=True)


def _read(folder: pathlib.Path, language: str) -> tuple[list[list[str]], list[str]]:
    text = (folder / f"{language}-en.train.tsv").read_text(encoding="utf-8")
    labels = (folder / f"{language}-en.train.labels").read_text(encoding="utf-8")
    return [line.split("\t") for line in text.splitlines()], labels.splitlines()


def _is_as_labelled(label: str, old: list[str], new: list[str], french: set[str]) -> bool:
    if label == "misaligned":
        return new[0] == old[0] and new[1] != old[1] and new[1].startswith("These are")
    if label == "wrong_language":
        return new[0] in french and new[1] == old[1]
    if label == "copied":
        return new[0] == new[1] and new[0] in old
    if label == "truncated":
        cut = [(a, b) for a, b in zip(old, new, strict=True) if a != b]
        return len(cut) == 1 and cut[0][0].startswith(cut[0][1] + " ")
    return new == (old[::-1] if label == "swapped" else old)


@pytest.mark.parametrize("kind", [*KINDS, "mix"])
def test_the_share_is_spoiled_as_the_labels_say(corpus, tmp_path, kind):
    assert not _add(corpus, tmp_path / "noisy", "--share", "0.2", "--kind", kind).stderr
    old = [line.split("\t") for line in (corpus / "deu-en.train.tsv").read_text().splitlines()]
    new, labels = _read(tmp_path / "noisy", "deu")
    french = {line.split("\t")[0] for line in (corpus / "fra-en.train.tsv").read_text().split("\n")}
    assert len(new) == len(old) == len(labels)
    assert all(map(_is_as_labelled, labels, old, new, [french] * len(old)))
    kinds = KINDS if kind == "mix" else [kind]
    assert {name: labels.count(name) for name in kinds} == {
        name: 20 // len(kinds) for name in kinds
    }
    assert labels.count("clean") == 80


def test_the_same_seed_gives_the_same_files_and_dev_stays_clean(corpus, tmp_path):
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        _add(corpus, tmp_path / name, "--share", "0.5", "--seed", seed)
    files = {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()}
    assert files == {p.name: p.read_bytes() for p in (tmp_path / "b").iterdir()}
    assert files["deu-en.train.tsv"] != (tmp_path / "c" / "deu-en.train.tsv").read_bytes()
    assert files["deu-en.dev.tsv"] == (corpus / "deu-en.dev.tsv").read_bytes()


def test_a_recipe_reads_the_files(corpus, tmp_path):
    _add(corpus, tmp_path / "noisy", "--share", "0", "--languages", "deu")
    entries = load_recipe(tmp_path / "noisy" / "recipe.toml").entries
    assert [(entry.languages, entry.split) for entry in entries] == [
        (("de",), "train"),
        (("de",), "dev"),
    ]
    assert _read(tmp_path / "noisy", "deu")[1] == ["clean"] * 100


@pytest.mark.parametrize("kind", ["misaligned", "wrong_language", "truncated"])
def test_what_cant_be_spoiled_is_labelled_clean(noise, kind):
    pairs = [noise.Pair("de", "x", "y")] * 4
    found = noise.spoil(pairs, [], 1.0, kind, "0")
    assert found == (pairs, ["clean"] * 4)


@pytest.mark.parametrize(
    "words, message",
    [
        (["--share", "1.5"], "--share: found 1.5, accepted: 0 to 1"),
        (["--share", "0.1", "--languages", "de"], "--languages: found de, accepted: deu fra"),
    ],
)
def test_bad_flags_are_refused_in_one_line(corpus, tmp_path, words, message):
    done = _add(corpus, tmp_path / "noisy", *words)
    assert (done.returncode, done.stderr) == (2, f"error: {message}\n")
    assert not (tmp_path / "noisy").exists()


def test_folders_that_dont_fit_are_refused(corpus, tmp_path):
    done = _add(corpus, corpus, "--share", "0.1")
    assert done.returncode == 2 and "not empty; accepted: a new folder" in done.stderr
    done = _add(tmp_path, tmp_path / "noisy", "--share", "0.1")
    assert done.returncode == 2 and "found no file named LANGUAGE-en.train.tsv" in done.stderr


def test_drops_are_counted_by_kind(counting, corpus, tmp_path):
    _add(corpus, tmp_path / "noisy", "--share", "0.2", "--languages", "deu", "--kind", "copied")
    recipe = load_recipe(tmp_path / "noisy" / "recipe.toml")
    counts = counting.count(recipe, CleaningConfig())
    assert counts["copied"] == {"copied": 20} and counts["clean"].total() == 80
    assert "| copied | 20 | 100.00% | 100.00% |" in counting.table(counts)
    counts = counting.count(recipe, counting.only("html"))
    assert counts == {"copied": {"": 20}, "clean": {"": 80}}


def test_only_one_filter_is_on(counting):
    config = counting.only("numbers")
    assert config.numbers and not config.copied and not config.language
    assert counting.only("") == CleaningConfig()
    with pytest.raises(ConfigError, match="--only: found 'number', accepted: control_characters"):
        counting.only("number")


def test_a_corpus_without_labels_is_refused(counting, corpus):
    (corpus / "recipe.toml").write_text(
        'name = "x"\n[[corpus]]\nlanguage = "de"\nsplit = "train"\n'
        'source = "tsv:deu-en.train.tsv"\nlicense = "CC0-1.0"\n'
    )
    with pytest.raises(ConfigError, match="labels: No such file .*; accepted: a corpus of"):
        counting.count(load_recipe(corpus / "recipe.toml"), CleaningConfig())
