"""A tiny model on made-up data, started as users start it."""
# SPDX-License-Identifier: Apache-2.0

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint
import pytest

from gshard_mt.config.records import (
    Config,
    DataConfig,
    MeshConfig,
    ModelConfig,
    MoeConfig,
    TrainConfig,
)
from gshard_mt.data.prepared import Prepared
from tests.cli.calling import call, first_devices

CONFIG = """
from gshard_mt.config import records as c
from gshard_mt.config.records import AugmentationConfig, CleaningConfig, DataConfig

def get_config():
    return c.Config(
        data={data!r},
        model=c.ModelConfig(
            num_layers={num_layers}, model_dim=16, ffn_dim=32, num_heads=2, head_dim=8,
            moe=c.MoeConfig(num_experts={num_experts}, group_size=16),
        ),
        train=c.TrainConfig(
            batch_rows=16, schedule="constant", warmup_steps=2, log_every=1, **{train!r}
        ),
    )
"""
CLOCKS = ("seconds", "input_seconds", "compile_seconds", "tokens_per_second")
TIME = re.compile(r"^\d\d:\d\d:\d\d ", re.MULTILINE)  # before a line that is not in a terminal
_AS_NUMPY = orbax.checkpoint.RestoreArgs(restore_type=np.ndarray)  # whatever devices saved it
HALF = ".orbax-checkpoint-tmp"  # in the name of what Orbax has not finished


def tiny_config(data: DataConfig, mesh: MeshConfig, num_experts: int = 0, **train) -> Config:
    """The same model for a run in this process; `train` are fields of TrainConfig."""
    model = ModelConfig(_num_layers(num_experts), model_dim=16, ffn_dim=32, num_heads=2, head_dim=8)
    model.moe = MoeConfig(num_experts=num_experts, group_size=16)
    lengths = {"batch_rows": 16, "warmup_steps": 2, "log_every": 2}
    return Config(data, model, TrainConfig(schedule="constant", **lengths, **train), mesh)


def _num_layers(num_experts: int) -> int:
    """As few as possible: a model without experts compiles in a third of the time."""
    return 4 if num_experts else 2


class Runs:
    """A folder with a config, made-up data and runs, and the command to make them."""

    def __init__(
        self,
        folder: pathlib.Path,
        data: DataConfig,
        prepared: Prepared,
        num_experts: int = 0,
        **train,
    ):
        """`train` are fields of TrainConfig; `num_steps` is one of them."""
        train = {"eval_every": 20, "save_every": 4, "max_checkpoints": 3} | train
        train = {"sample_translations": 0} | train  # they need one more program
        self.folder, self.data_dir = folder, prepared.directory
        self.home: pathlib.Path = folder  # of the run directories
        self.steps: int = train["num_steps"]
        sizes = {"num_layers": _num_layers(num_experts), "num_experts": num_experts}
        text = CONFIG.format(data=data, train=train, **sizes)
        (folder / "config.py").write_text(text, encoding="utf-8")

    def start(self, run: str, devices: int, *flags: str, before: str = "") -> subprocess.Popen:
        """Starts a process; `before` is a line of the shell that it comes after."""
        words = [sys.executable, "-m", "gshard_mt.cli.train", *self._flags(run, devices), *flags]
        environment = os.environ | {
            # Half a program, left by a process that was killed, is made anew, with a warning.
            "PYTHONWARNINGS": "ignore:Error reading persistent compilation cache entry",
        }
        pipe = subprocess.PIPE
        command = words
        if before:
            command = ["bash", "-c", f'{before}; exec "$@"', "bash", *command]
        return subprocess.Popen(command, env=environment, text=True, stdout=pipe, stderr=pipe)

    def call(self, run: str, devices: int, *flags: str) -> subprocess.CompletedProcess[bytes]:
        """Trains in this process, with the first of its devices."""
        with first_devices(devices):
            return call("train", *self._flags(run, devices), *flags)

    def _flags(self, run: str, devices: int) -> list[str]:
        paths = {"config": self.folder / "config.py", "data_dir": self.data_dir}
        values = paths | {"workdir": self.home / run, "config.mesh.num_cpu_devices": devices}
        return [f"--{name}={value}" for name, value in values.items()]

    def start_two(self, run: str, *flags: str, devices: int = 4) -> list[subprocess.Popen]:
        """Starts two processes with `devices` simulated devices each."""
        flags += (f"--coordinator_address=localhost:{free_port()}", "--num_processes=2")
        return [self.start(run, devices, *flags, f"--process_id={number}") for number in (0, 1)]

    def lines(self, run: str) -> list[dict]:
        """What is in metrics.jsonl, without what the clock says; a half line is left out."""
        path, found = self.folder / run / "metrics.jsonl", []
        for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            try:
                line = json.loads(text)
            except ValueError:
                continue
            found.append({key: value for key, value in line.items() if key not in CLOCKS})
        return found

    def last_step(self, run: str) -> int:
        return max((line["step"] for line in self.lines(run)), default=0)

    def checkpoints(self, run: str) -> pathlib.Path:
        return self.folder / run / "checkpoints"

    def half_saved(self, run: str) -> set[str]:
        """The saves under way."""
        try:
            return {name for name in os.listdir(self.checkpoints(run)) if HALF in name}
        except FileNotFoundError:
            return set()

    def arrays(self, run: str, step: int) -> dict[str, np.ndarray]:
        """Every array of a checkpoint, by its name, as NumPy."""
        return saved_arrays(self.folder / run, step)


def wait_until(is_so, processes: list[subprocess.Popen], seconds: float = 400) -> bool:
    """Polls until `is_so()`; returns False if the processes end first, fails if nothing happens."""
    end = time.monotonic() + seconds
    while not is_so():
        if any(process.poll() is not None for process in processes):
            return False
        assert time.monotonic() < end, "no progress"
        time.sleep(0.0005)
    return True


def kill(processes: list[subprocess.Popen], number: int = signal.SIGKILL) -> list[tuple[str, str]]:
    """Sends all of them a signal; returns what they printed."""
    for process in processes:
        process.send_signal(number)
    return [process.communicate(timeout=120) for process in processes]


def finish(processes: list[subprocess.Popen]) -> list[str]:
    """Waits for the end; returns what was printed, without the time of day before each line.

    On standard error are only lines about steps and compilation.
    """
    said = [process.communicate(timeout=600) for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), said
    for _, errors in said:
        lines = TIME.sub("", errors).splitlines()
        assert all(re.match(r"train +\d+ of \d+ steps, |compil(ed|ing) ", line) for line in lines)
    return [TIME.sub("", printed) for printed, _ in said]


def free_port() -> int:
    with socket.create_server(("localhost", 0)) as server:
        return server.getsockname()[1]


def saved_arrays(workdir: pathlib.Path, step: int) -> dict[str, np.ndarray]:
    """Every array of a checkpoint, by its name, as NumPy."""
    arrays = {}
    for item in ("params", "optimizer"):
        folder = workdir / "checkpoints" / str(step) / item
        with orbax.checkpoint.PyTreeCheckpointer() as checkpointer:
            saved = checkpointer.metadata(folder.resolve()).item_metadata.tree
            like = jax.tree.map(lambda _: _AS_NUMPY, saved)
            tree = checkpointer.restore(folder.resolve(), restore_args=like)
        for path, leaf in jax.tree.flatten_with_path(tree)[0]:
            arrays[item + jax.tree_util.keystr(path)] = np.asarray(leaf)
    assert arrays
    return arrays


def assert_same_bits(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].tobytes() == array.tobytes(), name


def assert_same(found: list[dict], expected: list[dict]) -> None:
    """Every line of both logs agrees: the losses to 1e-5, what was read and when exactly."""
    assert len(found) == len(expected)
    for line, other in zip(found, expected, strict=True):
        assert line.keys() == other.keys()
        for key in ("step", "split", "pair", "source_tokens", "target_tokens"):
            assert line.get(key) == other.get(key)
        for key in line.keys() & {"loss", "nll", "aux_loss"}:
            assert line[key] == pytest.approx(other[key], rel=1e-5), (line["step"], key)
