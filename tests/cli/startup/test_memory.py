"""Keeping buffers: the command starts again once, with its arguments and its input."""
# SPDX-License-Identifier: Apache-2.0

import os
import pathlib
import subprocess
import sys

import pytest

from gshard_mt.cli.startup.memory import ONE_ARENA, TUNABLES, largest_weight
from gshard_mt.config.records import Config

COMMAND = """
import os, sys
from absl import app
from gshard_mt.cli.startup.memory import keep_buffers

def main(argv):
    kept = keep_buffers(int(os.environ.get("LARGEST", 0)))
    print(kept, os.environ.get("GLIBC_TUNABLES"), argv[1:], sys.stdin.read())

app.run(main)
"""


def call(tmp_path, *arguments: str, **environment: str) -> str:
    (tmp_path / "command.py").write_text(COMMAND)
    home = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    root = str(pathlib.Path(__file__).parents[3])
    done = subprocess.run(
        [sys.executable, "command.py", *arguments],
        cwd=tmp_path,
        env=home | {"PYTHONPATH": root, "JAX_PLATFORMS": "cpu"} | environment,
        input="the input",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_command_starts_again_with_its_arguments_and_its_input(tmp_path):
    kept = f"True {TUNABLES} ['one', 'two words'] the input"
    unchanged = "False None ['one', 'two words'] the input"
    expected = kept if sys.platform == "linux" else unchanged
    assert call(tmp_path, "one", "two words") in (expected, unchanged)  # musl has no tunables


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [(["--nokeep_buffers"], {}), ([], {"GLIBC_TUNABLES": ""})],
)
def test_it_can_be_switched_off(tmp_path, arguments, environment):
    assert call(tmp_path, *arguments, **environment).startswith("False")


def test_threads_share_an_arena_where_buffers_are_large(tmp_path):
    for largest, more in (((1 << 26) - 1, ""), (1 << 26, ONE_ARENA)):
        found = call(tmp_path, LARGEST=str(largest))
        assert found == f"True {TUNABLES}{more} [] the input"


def test_the_largest_weight_is_that_of_a_devices_experts():
    config = Config()
    config.model.model_dim, config.model.ffn_dim = 256, 1024
    config.model.moe.num_experts, config.mesh.num_cpu_devices = 64, 0
    assert largest_weight(config) == 1 << 26
    config.mesh.num_cpu_devices = 8
    assert largest_weight(config) == 1 << 23
