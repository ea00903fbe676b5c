"""Any sentences can be scored, and those in the training data are found."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import itertools
import json
import pathlib
import shutil

import pytest

from gshard_mt.config.records import Config, DataConfig
from gshard_mt.data.prepare.prepare import prepare
from gshard_mt.data.prepared import open_prepared
from gshard_mt.data.tokenizer import load_tokenizer
from gshard_mt.errors import ConfigError, DataError
from gshard_mt.evaluate.test_sets import (
    Leak,
    TestSet,
    TrainingData,
    find_leaks,
    held_out,
    open_test_set,
    perturbed,
    read_test_set,
    without_training,
)
from gshard_mt.run.directory import Run
from tests.making.made_up import write_made_up, write_recipe


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> tuple[DataConfig, pathlib.Path]:
    folder = tmp_path_factory.mktemp("data")
    config = write_made_up(folder)
    prepare(config, folder / "data")
    return config, folder / "data"


def test_leaks_are_found_despite_other_case_spaces_and_punctuation(data):
    prepared, tokenizer = open_prepared(data[1]), load_tokenizer(data[1])
    record = prepared.reader("fr-en", "train").read([0, 1])
    source = tokenizer.decode_sources([record[0].source.tolist()])[0]
    english = tokenizer.decode_target(record[1].target.tolist())
    test = TestSet(
        "mine",
        {
            # The French source as a German one: the language of a leak doesn't matter.
            "de-en": [
                (source.upper() + " !", "Nobody ever said this"),
                ("neu", "brand new"),
            ],
            "fr-en": [("jamais vu", f"  {english.capitalize()}..."), ("", "")],
        },
    )
    found = find_leaks(test, TrainingData([prepared], True), tokenizer)
    assert found == {"de-en": Leak(sources=1, english=0), "fr-en": Leak(sources=0, english=1)}


def test_held_out_sentences_do_not_leak(data):
    prepared, tokenizer = open_prepared(data[1]), load_tokenizer(data[1])
    test = held_out(prepared, "test")
    assert set(test.pairs) == {"de-en", "fr-en", "lb-en"} and test.name == "test"
    assert set(find_leaks(test, TrainingData([prepared], True), tokenizer).values()) == {Leak(0, 0)}


def test_files_and_recipes_are_test_sets(tmp_path):
    (tmp_path / "a.tsv").write_text("eins\tone\n", encoding="utf-8")
    (tmp_path / "b.tsv").write_text("zwei\ttwo\nun\tone\n", encoding="utf-8")
    files = read_test_set([f"deu-en={tmp_path / 'a.tsv'}", f"de-en={tmp_path / 'b.tsv'}"])
    assert files == TestSet("testset", {"de-en": [("eins", "one"), ("zwei", "two"), ("un", "one")]})
    recipe = 'name = "my ../tests"\n'
    for split, name in (("train", "a"), ("test", "b")):
        recipe += f'[[corpus]]\nlanguage = "fr"\nsplit = "{split}"\nsource = "tsv:{name}.tsv"\n'
        recipe += 'license = "none"\n'
    (tmp_path / "recipe.toml").write_text(recipe, encoding="utf-8")
    found = read_test_set([str(tmp_path / "recipe.toml")])
    assert found.pairs == {"fr-en": [("zwei", "two"), ("un", "one")]}
    assert found.name == "testset-my_.._tests"


def test_the_same_file_is_scored_the_same_as_a_ready_made_split_and_as_a_test_set(tmp_path):
    config = write_made_up(tmp_path)
    rows = [
        ("e\u0301 \u00ad x", "raw  cafe\u0301\u200b \u2581 \u00a0end "),
        ("zwei\u2028", "line\u0085end"),
        ("\u200b\u2060", "nothing to translate"),
        ("drei", "\ufe0f"),
        ("vier", "four"),
    ]
    text = "".join(f"{source}\t{english}\n" for source, english in rows)
    (tmp_path / "test.tsv").write_bytes(text.encode())
    corpus = {"language": "de", "split": "test", "source": "tsv:test.tsv", "license": "x"}
    train = {"language": "de", "source": "tsv:de.tsv", "license": "x"}
    write_recipe(tmp_path, [train, corpus])
    prepare(dataclasses.replace(config, source_vocab_size=300), tmp_path / "data")
    prepared = open_prepared(tmp_path / "data")
    expected = [rows[0], rows[1], rows[4]]
    assert held_out(prepared, "test").pairs == {"de-en": expected}
    assert read_test_set([f"de-en={tmp_path / 'test.tsv'}"]).pairs == {"de-en": expected}
    # The model reads normalized text.
    tokenizer = load_tokenizer(tmp_path / "data")
    records = prepared.reader("de-en", "test").read(range(3))
    assert tokenizer.decode_sources([record.source.tolist() for record in records]) == [
        "é x", "zwei", "vier",
    ]  # fmt: skip
    assert tokenizer.decode_target(records[0].target.tolist()) == "raw café _ end"


def test_pairs_with_an_empty_side_are_left_out_and_counted(tmp_path, capsys):
    (tmp_path / "a.tsv").write_text("eins\tone\n\ttwo\ndrei\t\u200d\n", encoding="utf-8")
    found = read_test_set([f"de-en={tmp_path / 'a.tsv'}"])
    assert found.pairs == {"de-en": [("eins", "one")]}
    assert capsys.readouterr().err == "left out    de-en: 2 pairs with an empty side\n"
    (tmp_path / "a.tsv").write_text(" \tone\n", encoding="utf-8")
    with pytest.raises(DataError, match="--testset: found no pair with text on both sides"):
        read_test_set([f"de-en={tmp_path / 'a.tsv'}"])


def test_a_language_without_training_pairs_is_left_out(data):
    prepared = open_prepared(data[1])
    counts = {pair: dict(splits) for pair, splits in prepared.num_examples.items()}
    counts["fr-en"]["train"] = 0
    prepared = dataclasses.replace(prepared, num_examples=counts)
    assert set(held_out(prepared, "dev").pairs) == {"de-en", "lb-en"}
    assert without_training(prepared, "dev") == ["fr-en"]


def test_the_split_that_can_be_scored_instead_is_named(data, tmp_path):
    run = Run(Config(), data[1], open_prepared(data[1]).fingerprint, {"de-en": 1})
    for without, accepted in (
        (["test"], "--split dev"),
        (["dev", "test"], "--testset de-en=FILE.tsv"),
    ):
        shutil.copytree(data[1], tmp_path, dirs_exist_ok=True)
        manifest = json.loads((tmp_path / "manifest.json").read_text())
        for pair, split in itertools.product(manifest["pairs"], without):
            manifest["pairs"][pair][split]["pairs"] = 0
            (tmp_path / "references" / f"{pair}.{split}.tsv").write_text("")
        (tmp_path / "manifest.json").write_text(json.dumps(manifest))
        run = run._replace(data_fingerprint=open_prepared(tmp_path).fingerprint)
        with pytest.raises(DataError, match=f"no pair has a test split; accepted: {accepted}"):
            open_test_set(["test"], run, tmp_path, [str(tmp_path)], False)


def test_languages_that_the_model_has_not_seen_are_told(tmp_path, capsys):
    (tmp_path / "a.tsv").write_text("x\ty\n", encoding="utf-8")
    run = Run(Config(), tmp_path, "", {"de-en": 1})
    values = [f"{tag}-en={tmp_path / 'a.tsv'}" for tag in ("ru", "deu")]
    test, _ = open_test_set(values, run, tmp_path, [], False)
    assert set(test.pairs) == {"ru-en", "de-en"}
    assert capsys.readouterr().err == "untrained   ru-en: the model has seen no pair of it\n"


def test_a_test_set_has_the_codes_of_the_run(tmp_path):
    (tmp_path / "a.tsv").write_text("x\ty\n", encoding="utf-8")

    def pairs(run: str, *tags: str) -> list[str]:
        values = [f"{tag}={tmp_path / 'a.tsv'}" for tag in tags]
        return sorted(read_test_set(values, run.split()).pairs)

    assert pairs("de-en", "deu_Latn-eng_Latn") == ["de-en"]
    assert pairs("sw-en", "swh_Latn-en", "zh_TW-en") == ["sw-en", "zh-en"]
    # A run that has Serbian in one script calls it sr, whichever it is.
    assert pairs("sr-en", "srp_Latn-en") == ["sr-en"]
    assert pairs("sr-en", "srp_Latn-en", "srp_Cyrl-en") == ["sr-en", "sr_Latn-en"]
    assert pairs("sr-en sr_Latn-en", "sr-Latn-en") == ["sr_Latn-en"]
    assert pairs("no-en", "nob_Latn-en", "nno_Latn-en") == ["nn-en", "no-en"]
    assert pairs("nb-en nn-en", "no-en") == ["nb-en"]


@pytest.mark.parametrize("value", ["de-en", "=a.tsv", "de=a.tsv", "de-en=", "de-fr=a.tsv"])
def test_a_test_set_of_another_form_is_refused(value):
    with pytest.raises(ConfigError, match="--testset: found"):
        read_test_set([value])


def test_a_bad_line_of_a_test_set_is_named(tmp_path):
    (tmp_path / "a.tsv").write_text("eins\tone\nzwei\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"a.tsv:2: found 1 columns"):
        read_test_set([f"de-en={tmp_path / 'a.tsv'}"])


def test_a_perturbed_test_set_is_always_the_same():
    plain = TestSet("dev", {"tr-en": [("iki.", "two."), ("üç", "three")], "fr-en": [("un", "one")]})
    upper = {"tr-en": [("İKİ.", "TWO."), ("ÜÇ", "THREE")], "fr-en": [("UN", "ONE")]}
    assert perturbed(plain, "upper_case") == TestSet("dev-upper_case", upper)
    assert perturbed(plain, "placeholders") == perturbed(plain, "placeholders")
    with pytest.raises(ConfigError, match="--perturb: found 'uppercase'; did you mean upper_case?"):
        perturbed(plain, "uppercase")
