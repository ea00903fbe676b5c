"""Keeping buffers: the command starts again once, with its arguments and its input."""
# SPDX-License-Identifier: Apache-2.0

import os
import pathlib
import subprocess
import sys

import pytest

from gshard_mt.cli.memory import TUNABLES

COMMAND = """
import os, sys
from absl import app
from gshard_mt.cli.memory import keep_buffers

def main(argv):
    kept = keep_buffers()
    print(kept, os.environ.get("GLIBC_TUNABLES"), argv[1:], sys.stdin.read())

app.run(main)
"""


def call(tmp_path, *arguments: str, **environment: str) -> str:
    (tmp_path / "command.py").write_text(COMMAND)
    home = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    root = str(pathlib.Path(__file__).parents[2])
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
