"""The compilation cache's folder: beside the run, named, or none."""
# SPDX-License-Identifier: Apache-2.0

import os
import pathlib
import subprocess
import sys

import pytest

COMMAND = """
import pathlib, sys
from gshard_mt.cli import flags
from gshard_mt.cli.startup import compilation

def main():
    compilation.use_cache(pathlib.Path("runs/first"))
    import jax
    jax.jit(lambda x: x + 1)(1).block_until_ready()

entry = flags.command(main)
"""


def call(folder: pathlib.Path, *arguments: str, **environment: str):
    (folder / "command.py").write_text(COMMAND, encoding="utf-8")
    own = {"PYTHONPATH": str(pathlib.Path(__file__).parents[3]), "JAX_PLATFORMS": "cpu"}
    inherited = {key: os.environ[key] for key in os.environ if key != "JAX_COMPILATION_CACHE_DIR"}
    return subprocess.run(
        [sys.executable, "command.py", *arguments],
        cwd=folder,
        env=inherited | own | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        ([], {}, "runs/.compilation_cache"),
        (["--compilation_cache=named/it"], {}, "named/it"),
        ([], {"JAX_COMPILATION_CACHE_DIR": "of_jax"}, "of_jax"),
        (["--compilation_cache="], {"JAX_COMPILATION_CACHE_DIR": "of_jax"}, None),
    ],
)
def test_programs_are_kept_in_the_folder(tmp_path, arguments, environment, expected):
    done = call(tmp_path, *arguments, **environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    folders = {str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob("*-cache")}
    assert folders == ({expected} if expected else set())


def test_a_folder_that_cant_be_one_is_one_line(tmp_path):
    done = call(tmp_path, "--compilation_cache=command.py/cache")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: --compilation_cache: can't write into ")
