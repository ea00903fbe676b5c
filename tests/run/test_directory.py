"""A run directory accepts its own config and data and refuses others, naming the keys."""
# SPDX-License-Identifier: Apache-2.0

import copy
import json
import pathlib
import re
import shutil

import pytest

from gshard_mt.config.keys import set_value
from gshard_mt.config.records import Config
from gshard_mt.errors import CheckpointError, ConfigError
from gshard_mt.run.directory import (
    FIXED_DATA_KEYS,
    FREE_KEYS,
    FREE_SECTIONS,
    SCHEDULES_WITHOUT_END,
    EarlierData,
    Run,
    check_workdir,
    read_run,
    start_run,
)


@pytest.fixture
def run(tmp_path) -> Run:
    data_dir = tmp_path / "data"
    (data_dir / "tokenizer").mkdir(parents=True)
    (data_dir / "tokenizer" / "source.model").write_bytes(b"subwords")
    return Run(Config(), data_dir, "abc", {"de-en": 30, "fr-en": 20})


@pytest.fixture
def workdir(tmp_path) -> pathlib.Path:
    return tmp_path / "runs" / "first"


def changed(run: Run, **values) -> Run:
    """The run with `section__key=value` set."""
    config = copy.deepcopy(run.config)
    for name, value in values.items():
        set_value(config, name.replace("__", "."), value)
    return run._replace(config=config)


def test_a_new_run_is_written_and_read_back(run, workdir):
    assert start_run(workdir, run)
    assert read_run(workdir) == run._replace(data_dir=run.data_dir.resolve())
    assert json.loads((workdir / "config.json").read_text())["format_version"] == 2
    assert (workdir / "tokenizer" / "source.model").read_bytes() == b"subwords"
    assert not list(workdir.glob("*.tmp"))


def test_the_same_run_is_resumed(run, workdir):
    assert start_run(workdir, run)
    before = (workdir / "config.json").read_text()
    assert not start_run(workdir, run)
    assert (workdir / "config.json").read_text() == before


@pytest.mark.parametrize(
    "values",
    [
        {"mesh__data": 4, "mesh__expert": 2, "mesh__num_cpu_devices": 8},
        {"decode__beam_size": 1, "decode__length_penalty": 0.0},
        {"train__log_every": 1, "train__eval_every": 7, "train__save_every": 7},
        {"train__max_checkpoints": 9},
        {"data__recipe": "elsewhere/the_same.toml"},
        {"data__num_dev": 7, "data__cleaning__max_characters": 99, "data__source_vocab_size": 9},
    ],
)
def test_what_does_not_change_the_result_may_change_and_is_written(run, workdir, values):
    start_run(workdir, run)
    other = changed(run, **values)
    assert not start_run(workdir, other)
    assert read_run(workdir).config == other.config


@pytest.mark.parametrize(
    "values",
    [
        {"model__num_layers": 8},
        {"model__dropout_rate": 0.2, "train__seed": 3},
        {"train__batch_rows": 32},
        {"train__optimizer": "adamw"},
        {"data__temperature": 1.0},
    ],
)
def test_another_config_is_refused_with_its_keys(run, workdir, values):
    start_run(workdir, run)
    before = (workdir / "config.json").read_text()
    with pytest.raises(ConfigError) as caught:
        start_run(workdir, changed(run, mesh__data=2, **values))
    keys = [name.replace("__", ".") for name in values]
    message = str(caught.value)
    assert str(workdir / "config.json") in message
    assert ", ".join(keys) in message
    section, key = next(iter(values)).split("__")
    assert repr(values[f"{section}__{key}"]) in message
    assert repr(getattr(getattr(run.config, section), key)) in message
    differing, may_change = message.split("May change: ")
    assert "mesh" not in differing
    assert "train.bad_steps" in may_change and "mesh.*" in may_change
    assert "train.num_steps may grow in a finished run" in may_change
    assert f"--init_from={workdir} to begin with this run's parameters" in differing
    assert (workdir / "config.json").read_text() == before


def test_a_key_of_a_nested_section_is_refused_with_its_value(run, workdir):
    start_run(workdir, run)
    other = copy.deepcopy(run.config)
    other.model.moe.num_experts = 4
    with pytest.raises(ConfigError, match=r"model\.moe\.num_experts: found 4, the run has 8"):
        start_run(workdir, run._replace(config=other))


def test_the_page_lists_the_keys_that_may_change():
    page = pathlib.Path(__file__).parents[2] / "docs" / "faults.md"
    paragraph = page.read_text(encoding="utf-8").split("\n\n## Runs that don't match\n\n")[1]
    listed = set(re.findall(r"`([^`]+)`", paragraph))
    sections = {f"{section}*" for section in FREE_SECTIONS}
    assert listed == FREE_KEYS | sections | {"train.num_steps", *SCHEDULES_WITHOUT_END}


def test_every_free_or_fixed_key_is_a_key():
    for key in FREE_KEYS | FIXED_DATA_KEYS:
        section, name = key.split(".")
        assert hasattr(getattr(Config(), section), name)


@pytest.mark.parametrize("schedule", ["inverse_sqrt", "constant", "paper"])
def test_a_schedule_without_end_may_train_longer(run, workdir, schedule):
    run = changed(run, train__schedule=schedule)
    start_run(workdir, run)
    assert not start_run(workdir, changed(run, train__num_steps=5000))
    assert read_run(workdir).config.train.num_steps == 5000


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_schedule_with_an_end_keeps_it(run, workdir, schedule):
    run = changed(run, train__schedule=schedule)
    start_run(workdir, run)
    with pytest.raises(ConfigError, match=r"train\.num_steps: found 5000, the run has 1000"):
        start_run(workdir, changed(run, train__num_steps=5000))


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_finished_run_trains_longer_with_every_schedule(run, workdir, schedule):
    run = changed(run, train__schedule=schedule)
    start_run(workdir, run)
    (workdir / "checkpoints" / "800").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"train\.num_steps: found 5000, the run has 1000"):
        start_run(workdir, changed(run, train__num_steps=5000))
    (workdir / "checkpoints" / "1000").mkdir()
    with pytest.raises(ConfigError, match=r"train\.num_steps: found 900, the run has 1000"):
        start_run(workdir, changed(run, train__num_steps=900))
    start_run(workdir, changed(run, train__num_steps=5000))
    assert read_run(workdir).config.train.num_steps == 5000


def test_a_schedule_is_not_changed_by_training_longer(run, workdir):
    start_run(workdir, changed(run, train__schedule="linear"))
    with pytest.raises(ConfigError, match=r"train\.schedule"):
        start_run(workdir, changed(run, train__schedule="constant", train__num_steps=5000))


def test_other_data_are_refused(run, workdir, tmp_path):
    start_run(workdir, run)
    with pytest.raises(CheckpointError, match="other prepared data"):
        start_run(workdir, run._replace(data_fingerprint="other"))
    assert read_run(workdir).data_fingerprint == "abc"
    moved = tmp_path / "moved"
    run.data_dir.rename(moved)
    assert not start_run(workdir, run._replace(data_dir=moved))
    assert read_run(workdir).data_dir == moved.resolve()


def test_another_mixture_is_refused_and_the_flag_that_accepts_it_named(run, workdir):
    start_run(workdir, run)
    for values in (
        {"data__temperature": 1.0},
        {"data__augmentation__typos": 0.1},
    ):
        with pytest.raises(ConfigError, match="--change_mixture or another --workdir"):
            start_run(workdir, changed(run, **values))
    with pytest.raises(CheckpointError, match="--change_mixture"):
        start_run(workdir, run._replace(data_fingerprint="other"))
    with pytest.raises(ConfigError, match="own values or another --workdir"):
        start_run(workdir, changed(run, data__temperature=1.0, model__num_layers=8))


def test_the_flag_accepts_another_mixture_for_good(run, workdir, tmp_path):
    start_run(workdir, run)
    data_dir = tmp_path / "more"
    shutil.copytree(run.data_dir / "tokenizer", data_dir / "tokenizer")
    other = changed(run, data__temperature=1.0, data__recipe="other.toml")._replace(
        data_dir=data_dir, data_fingerprint="other", train_pairs={"de-en": 30, "lb-en": 5}
    )
    assert not start_run(workdir, other, change_mixture=True)
    assert read_run(workdir) == other
    assert not start_run(workdir, other)
    assert not start_run(workdir, other, change_mixture=True)
    with pytest.raises(CheckpointError, match="other prepared data"):
        start_run(workdir, other._replace(data_fingerprint="abc"))


def leave_mixture(workdir, step: int, data: str, pairs: dict[str, int]) -> None:
    """As a run does that goes on with another one."""
    old = {"data": data, "pairs": {stream: {"pairs": number} for stream, number in pairs.items()}}
    with (workdir / "mixtures.jsonl").open("a") as file:
        file.write(json.dumps({"step": step, "old": old, "new": {}}) + "\n")


def test_a_run_keeps_the_languages_and_the_data_of_mixtures_that_it_left(run, workdir, tmp_path):
    start_run(workdir, run)
    for number, (data, pairs) in enumerate({"b": {"lb-en": 5}, "c": {"de-en": 7}}.items(), 1):
        shutil.copytree(run.data_dir, tmp_path / data)
        other = run._replace(data_dir=tmp_path / data, data_fingerprint=data, train_pairs=pairs)
        start_run(workdir, other, change_mixture=True)
        old = {"abc": {"de-en": 30, "fr-en/a": 15, "fr-en/b": 5, "nl-en": 0}, "b": {"lb-en": 5}}
        leave_mixture(workdir, 10 * number, *list(old.items())[number - 1])
    found = read_run(workdir)
    assert found.train_pairs == {"de-en": 7, "fr-en": 20, "lb-en": 5}
    assert found.former_pairs == {"fr-en", "lb-en"} and found.data_fingerprint == "c"
    found.check_language("fr")
    with pytest.raises(ConfigError, match="found 'nl', this run was not trained on it"):
        found.check_language("nl")
    assert found.earlier == (
        EarlierData("abc", 10, run.data_dir.resolve()),
        EarlierData("b", 20, (tmp_path / "b").resolve()),
    )
    start_run(workdir, found._replace(train_pairs={"de-en": 7}))  # resumed
    assert read_run(workdir) == found
    # Back to the first data: they are no earlier ones any more.
    start_run(workdir, run, change_mixture=True)
    leave_mixture(workdir, 30, "c", {"de-en": 7})
    assert [each.fingerprint for each in read_run(workdir).earlier] == ["b", "c"]
    assert read_run(workdir).train_pairs == {"de-en": 30, "fr-en": 20, "lb-en": 5}


def test_a_run_of_an_older_version_knows_its_languages_but_not_where_its_data_were(run, workdir):
    start_run(workdir, run)
    path = workdir / "config.json"
    record = json.loads(path.read_text())
    del record["earlier_data_dirs"]
    path.write_text(json.dumps(record))
    leave_mixture(workdir, 10, "old", {"lb-en": 5})
    assert read_run(workdir).earlier == (EarlierData("old", 10, None),)
    read_run(workdir).check_language("lb")


@pytest.mark.parametrize(
    "values",
    [
        {"model__num_layers": 8},
        {"data__seed": 5},
        {"data__target_length": 128},
    ],
)
def test_the_flag_accepts_nothing_else(run, workdir, values):
    start_run(workdir, run)
    (key,) = (name.replace("__", ".") for name in values)
    with pytest.raises(ConfigError, match=rf"another config: {key} .*own values or another"):
        start_run(workdir, changed(run, data__temperature=1.0, **values), change_mixture=True)


def test_data_of_another_tokenizer_are_refused_with_the_flag_too(run, workdir, tmp_path):
    start_run(workdir, run)
    other = run._replace(data_dir=tmp_path / "other", data_fingerprint="other")
    for name, content in (("source", b"other subwords"), ("joint", b"subwords")):
        shutil.rmtree(other.data_dir, ignore_errors=True)
        (other.data_dir / "tokenizer").mkdir(parents=True)
        (other.data_dir / "tokenizer" / f"{name}.model").write_bytes(content)
        with pytest.raises(CheckpointError, match="found tokenizer .*, the run has"):
            start_run(workdir, other, change_mixture=True)
    assert read_run(workdir).data_fingerprint == "abc"
    assert (workdir / "tokenizer" / "source.model").read_bytes() == b"subwords"


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="is .* a run directory"):
        read_run(tmp_path)
    path = tmp_path / "config.json"
    for text in ('{"format_version": 3}', "[]", "{}", '{"format'):
        path.write_text(text)
        with pytest.raises(CheckpointError, match="format_version|not JSON"):
            read_run(tmp_path)


@pytest.mark.parametrize("left", ["checkpoints/10", "metrics.jsonl", "eval/10/test", "damaged/4"])
def test_what_a_run_left_without_its_config_is_not_taken_for_a_new_run(run, workdir, left):
    path = workdir / left
    path.parent.mkdir(parents=True)
    path.mkdir() if "/" in left else path.write_text("{}\n")
    (name, *_) = left.split("/")
    with pytest.raises(CheckpointError, match=f"found {name}, but no config.json, .* restore"):
        start_run(workdir, run)
    assert not (workdir / "config.json").exists() and not (workdir / "tokenizer").exists()


def test_a_run_that_was_killed_before_its_config_was_written_is_new(run, workdir):
    (workdir / "tokenizer").mkdir(parents=True)
    (workdir / "checkpoints").mkdir()  # empty
    (workdir / "lock").touch()
    assert start_run(workdir, run)


def test_a_language_without_training_pairs_is_none_of_the_run(run, workdir):
    start_run(workdir, run._replace(train_pairs={"de-en": 30, "nl-en": 0, "fr-en": 20}))
    found = read_run(workdir)
    assert found.train_pairs == {"de-en": 30, "fr-en": 20}
    with pytest.raises(ConfigError, match="found 'nl', this run was not trained on it"):
        found.check_language("nl")


@pytest.mark.parametrize("name", ["config", "data_dir", "data_fingerprint", "train_pairs"])
def test_a_config_that_is_incomplete_is_refused(run, workdir, name):
    start_run(workdir, run)
    path = workdir / "config.json"
    record = json.loads(path.read_text())
    del record[name]
    for broken in (record, record | {name: 7}) if name != "data_fingerprint" else (record,):
        path.write_text(json.dumps(broken))
        with pytest.raises((CheckpointError, ConfigError)):
            read_run(workdir)


def test_a_language_that_was_not_trained_on_is_refused(run):
    for tag in ("fr", "fra", "fr-CA", "fra_Latn", "FR", "fr_FR.UTF-8"):
        run.check_language(tag)
    with pytest.raises(ConfigError, match="found 'fi'.*(de|fr)"):
        run.check_language("fi")
    with pytest.raises(ConfigError, match="found 'no language'"):
        run.check_language("no language")
    with pytest.raises(ConfigError, match="found 'German', .*; did you mean de?"):
        run.check_language("German")


@pytest.mark.parametrize("stranger", ["manifest.json", "corpus.tsv", "notes.txt", "config.py"])
def test_a_folder_of_other_files_is_no_run_directory(run, workdir, stranger):
    check_workdir(workdir)  # there is none
    workdir.mkdir(parents=True)
    for name in ("lock", "train.log", "slurm-1.out", ".nfs1", "config.json.1.tmp", "metrics.jsonl"):
        (workdir / name).touch()
    (workdir / "tokenizer").mkdir()
    check_workdir(workdir)  # a start that was killed
    (workdir / stranger).touch()
    with pytest.raises(CheckpointError, match=f"found {stranger}, which is not of a run, accepted"):
        check_workdir(workdir)
    (workdir / "config.json").touch()
    check_workdir(workdir)  # users may keep their notes in a run
    with pytest.raises(CheckpointError, match="metrics.jsonl: found a file, accepted as --workdir"):
        check_workdir(workdir / "metrics.jsonl")
