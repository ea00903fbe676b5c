"""Experiments are read and refused as a whole; what is left of one is found on the disk."""
# SPDX-License-Identifier: Apache-2.0

import argparse
import importlib.util
import json
import pathlib
import subprocess
import sys
import time

import pytest

from gshard_mt.config.keys import to_json
from gshard_mt.data.prepared import open_prepared
from gshard_mt.errors import ConfigError
from gshard_mt.run.directory import FORMAT_VERSION

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "train_and_compare.py"
TOML = """
override = { "train.num_steps" = 20, "model.moe.gate" = "top1" }
[[run]]
name = "one"
config = "../config.py"
[[run]]
name = "two"
config = "../config.py"
data = "own"
override = { "model.moe.gate" = "top2", "model.moe.count_rejected" = true }
"""
CONFIG = "from gshard_mt.config import Config\n\ndef get_config():\n    return Config()\n"


@pytest.fixture(scope="module")
def script():
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        spec = importlib.util.spec_from_file_location("train_and_compare", SCRIPT)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(SCRIPT.parent))
    return module


@pytest.fixture
def path(tmp_path) -> pathlib.Path:
    (tmp_path / "config.py").write_text(CONFIG)
    (tmp_path / "experiments").mkdir()
    path = tmp_path / "experiments" / "some.toml"
    path.write_text(TOML)
    return path


def test_a_run_overrides_what_all_do_and_flags_override_it(script, path):
    experiment = script.read_experiment(path, {"train.num_steps": "30"})
    assert experiment.split == "dev" and [run.name for run in experiment.runs] == ["one", "two"]
    one, two = (script.make_config(run) for run in experiment.runs)
    assert (one.model.moe.gate, one.train.num_steps, two.model.moe.gate) == ("top1", 30, "top2")
    assert two.model.moe.count_rejected is True
    words = [script.prepare_words(run, pathlib.Path("data")) for run in experiment.runs]
    assert "--config.model.moe.count_rejected=true" in words[1]
    assert [run[-1] for run in words] == ["data", str(pathlib.Path("data") / "own")]
    assert pathlib.Path(words[1][1]).read_text() == CONFIG


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("[[run]]", "[[runs]]", "runs: unknown key; did you mean run?"),
        ("override = { \"train", "split = \"all\"\noverride = { \"train", "split: found 'all'"),
        ("train.num_steps", "train.num_step", "config.train.num_step: unknown key"),
        ('"model.moe.gate" = "top2"', "model.moe.gate = 3", "accepted: a value, and"),
        ("model.moe.count_rejected", "model.moe.rejected", "run two: config.model.moe.rejected"),
        ('"two"', '"one"', "run one: found twice"),
        ('"two"', '"../two"', "found name '../two'"),
        ('"two"', '"logs"', "run logs: a reserved folder"),
        ('"own"', '"../own"', "run two: found data '../own', accepted: letters"),
        ("config.py", "nothing.py", "run one: found config '../nothing.py'"),
        ('name = "two"', 'name = "two"\ngate = 1', "run two: gate: unknown key"),
        ('"top2"', '"top3"', "run two: config.model.moe.gate: found 'top3'"),
        ("= 20", "= 2.5", "some.toml: config.train.num_steps: found '2.5', accepted: an integer"),
        ('"train.num_steps" = 20', '"train.stop_after" = 2', "train.stop_after: found 2"),
        ("[[run]]", "[run", "not TOML"),
    ],
)  # fmt: skip
def test_what_cant_work_is_refused_in_a_line(script, path, old, new, message):
    path.write_text(TOML.replace(old, new))
    with pytest.raises(ConfigError) as raised:
        experiment = script.read_experiment(path, {})
        script.left(experiment, path.parent)
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_flags_are_keys_and_values(script):
    assert script.read_flags(["model.dtype=bfloat16"]) == {"model.dtype": "bfloat16"}
    with pytest.raises(ConfigError, match="--override: found 'a', accepted: KEY=VALUE"):
        script.read_flags(["a"])
    with pytest.raises(ConfigError, match="did you mean dtype"):
        script.read_flags(["model.dtyp=bfloat16"])


def test_what_is_left_is_seen_from_the_run_directories(script, path, tmp_path):
    experiment = script.read_experiment(path, {})
    assert script.left(experiment, tmp_path) == {"one": "train", "two": "train"}
    for run in experiment.runs:
        folder = tmp_path / run.name
        (folder / "checkpoints" / "10").mkdir(parents=True)
        record = {"data_dir": "d", "data_fingerprint": "f", "train_pairs": {}}
        record |= {"format_version": FORMAT_VERSION}
        record["config"] = to_json(script.make_config(run))
        (folder / "config.json").write_text(json.dumps(record))
    assert script.left(experiment, tmp_path) == {"one": "train", "two": "train"}
    for run in experiment.runs:
        (tmp_path / run.name / "checkpoints" / "20").mkdir()
    assert script.left(experiment, tmp_path) == {"one": "evaluate", "two": "evaluate"}
    place = tmp_path / "two" / "eval" / "20" / "dev"
    place.mkdir(parents=True)
    (place / "table.json").write_text("{}")
    assert script.left(experiment, tmp_path) == {"one": "evaluate"}
    for run in experiment.runs:  # as gshard-train records it: from the data
        file = tmp_path / run.name / "config.json"
        record = json.loads(file.read_text())
        record["config"]["data"] |= {"source_vocab_size": 330, "recipe": "own.toml", "num_dev": 7}
        file.write_text(json.dumps(record))
    assert script.left(experiment, tmp_path) == {"one": "evaluate"}
    own = script.read_experiment(path, {"data.source_vocab_size": "340"})
    assert script.left(own, tmp_path) == {"one": "train", "two": "train"}
    longer = script.read_experiment(path, {"train.num_steps": "30"})
    other = script.read_experiment(path, {"model.dropout_rate": "0.3"})
    for changed in (longer, other):
        assert script.left(changed, tmp_path) == {"one": "train", "two": "train"}


def test_the_script_refuses_in_one_line_with_status_2(path):
    path.write_text("run = 3")
    words = [sys.executable, SCRIPT, path, "--data_dir", "data", "--workdir", path.parent / "runs"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and done.stderr.startswith(f"error: {path}: no run; accepted")
    assert len(done.stderr.splitlines()) == 1


def test_a_run_with_data_of_its_own_prepares_it(script, path, config, tmp_path):
    words = f"def get_config():\n    return Config({config!r})\n"
    words = f"from gshard_mt.config.records import *\n\n{words}"
    (tmp_path / "config.py").write_text(words)
    path.write_text(
        TOML.replace('model.moe.count_rejected" = true', 'data.source_vocab_size" = 340')
    )
    _, two = script.read_experiment(path, {}).runs
    flags = argparse.Namespace(data_dir=tmp_path / "data", workdir=tmp_path / "runs")
    script.prepare(two, flags)
    assert open_prepared(tmp_path / "data" / "own").vocab_sizes[0] == 340
    other = two._replace(override={**two.override, "data.source_vocab_size": "350"})
    with pytest.raises(
        ConfigError, match="two: prepare failed, exit status 2: error: .*340 -> 350"
    ):
        script.prepare(other, flags)


@pytest.mark.parametrize("minutes, prepared", [(1.0, ["two"]), (0.0, [])])
def test_data_is_prepared_before_trainings_within_the_time(
    script, path, tmp_path, monkeypatch, minutes, prepared
):
    done = []
    monkeypatch.setattr(script, "prepare", lambda run, flags: done.append(run.name))
    monkeypatch.setattr(script, "run_all", lambda *_: done.append("all") or [])
    words = {"data_dir": tmp_path / "data", "workdir": tmp_path / "runs", "override": []}
    flags = argparse.Namespace(experiment=path, minutes=minutes, jobs=1, **words)
    assert script.work(flags) == script.WORK_LEFT == 3
    assert done == [*prepared, "all"]
    monkeypatch.setattr(script, "left", lambda *_: {})
    monkeypatch.setattr(script, "compare", lambda *_: None)
    assert script.work(flags) == 0


@pytest.mark.parametrize(
    "name", ["gates", "multi30k", "noise", "tatoeba", "tatoeba_ablations", "vocabularies"]
)
def test_our_own_experiments_can_work(script, name, tmp_path):
    experiment = script.read_experiment(ROOT / "configs" / "experiments" / f"{name}.toml", {})
    assert set(script.left(experiment, tmp_path).values()) == {"train"}


def test_compilation_is_no_time_of_training_steps(script, path, tmp_path):
    (run, _) = script.read_experiment(path, {}).runs
    (tmp_path / run.name).mkdir()
    line = {"step": 10, "split": "train", "loss": 5, "nll": 5}
    text = json.dumps(line | {"seconds": 150.0, "compile_seconds": 90.0})
    (tmp_path / run.name / "metrics.jsonl").write_text(text)
    process, log, since = None, tmp_path / "log", time.monotonic()
    said = script.time_of(script.Job("train", run, process, log, since), tmp_path)
    assert said == "after 0.0 minutes; training steps took 1.0 so far"
    said = script.time_of(script.Job("evaluate", run, process, log, since), tmp_path)
    assert said == "after 0.0 minutes"
