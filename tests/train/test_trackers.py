"""Trackers are told the lines of metrics.jsonl, and a restart continues their run."""
# SPDX-License-Identifier: Apache-2.0

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping

import pytest

from gshard_mt.errors import ConfigError
from gshard_mt.train import trackers
from gshard_mt.train.metrics import MetricsLog
from gshard_mt.train.trackers import TrackedRun, check_installed

NAMES, NLLS = ("train/loss", "dev/de-en/nll"), {(1, 0.125), (2, 0.25), (3, 0.375)}
# Two starts of a run, the second of which goes back to step 1. Nothing leaves this machine.
STARTS = """
import json, pathlib, sys
from gshard_mt.train.trackers import TrackedRun

name, workdir = sys.argv[1], pathlib.Path(sys.argv[2])
for steps in ((1, 2), (2, 3)):
    service = TrackedRun(name, workdir, {"train": {"num_steps": 3}})
    for step in steps:
        service.write({"train/loss": step / 4}, step)
        service.write({"dev/de-en/nll": step / 8}, step)
    service.flush()
    service.close()
if name == "trackio":
    from trackio.sqlite_storage import SQLiteStorage

    (run,) = SQLiteStorage.get_runs("gshard-mt")
    config = SQLiteStorage.get_run_config("gshard-mt", run)
    lines = SQLiteStorage.get_logs("gshard-mt", run)
    print(json.dumps([run, config["train"], lines], default=str))
"""


def start_twice(name: str, workdir) -> tuple[str, list[str]]:
    """Returns the id of the run and what was printed."""
    workdir.mkdir()
    environment = os.environ | {"TRACKIO_DIR": str(workdir / "trackio"), "WANDB_MODE": "offline"}
    done = subprocess.run(
        [sys.executable, "-c", STARTS, name, str(workdir)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads((workdir / "tracker.json").read_text())["id"], done.stdout.splitlines()


def test_trackio_has_the_lines_of_both_starts_in_one_run(tmp_path):
    key, printed = start_twice("trackio", tmp_path / "run")
    (line,) = [line for line in printed if line.startswith('["run-')]
    name, config, lines = json.loads(line)
    assert (name, config) == (f"run-{key}", {"num_steps": 3})
    found = {name: {(line["step"], line[name]) for line in lines if name in line} for name in NAMES}
    assert found == {NAMES[0]: {(1, 0.25), (2, 0.5), (3, 0.75)}, NAMES[1]: NLLS}


def test_wandb_has_both_starts_under_one_id(tmp_path):
    key, _ = start_twice("wandb", tmp_path / "run")
    files = list((tmp_path / "run").glob("wandb/offline-run-*/*.wandb"))
    assert files and {file.name for file in files} == {f"run-{key}.wandb"}
    assert all(name.encode() in file.read_bytes() for file in files for name in NAMES)


class Recorder:
    def __init__(self):
        self.told: list = []

    def write(self, scalars: Mapping[str, float], step: int) -> None:
        self.told.append((step, dict(scalars)))

    def flush(self) -> None:
        self.told.append("flushed")

    def close(self) -> None:
        self.told.append("closed")


def test_every_line_of_the_metrics_is_told(tmp_path):
    recorder = Recorder()
    log = MetricsLog(tmp_path, 0, [recorder])
    log.write({"step": 4, "split": "train", "loss": 0.5})
    log.write({"step": 4, "split": "dev", "pair": "de-en", "nll": 0.25})
    log.close()
    told = [(4, {"train/loss": 0.5}), "flushed", (4, {"dev/de-en/nll": 0.25}), "flushed", "closed"]
    assert recorder.told == told


def test_a_service_that_refuses_the_run_is_one_line(tmp_path, monkeypatch):
    class Other:
        @staticmethod
        def init(**_):
            raise RuntimeError("no API key\nconfigured")

    monkeypatch.setattr(trackers.importlib, "import_module", lambda name: Other)
    with pytest.raises(
        ConfigError, match="--tracker: wandb refuses the run .no API key configured"
    ):
        TrackedRun("wandb", tmp_path, {})


def test_a_missing_package_is_one_line(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"--tracker: found wandb, which is not installed; pip"):
        check_installed("wandb")
