"""What a command imports, so that one without a model starts fast and needs little."""
# SPDX-License-Identifier: Apache-2.0

import json
import pathlib
import subprocess
import sys

import pytest

_MAIN = """
import atexit, json, runpy, sys
atexit.register(lambda: json.dump(list(sys.modules), open("modules.json", "w")))
runpy.run_module("gshard_mt.cli." + sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""
JAX = {"jax", "jaxlib", "flax", "optax"}
STORES = {"orbax", "tensorflow_datasets", "array_record", "tensorboardX"}
TEXT = {"pyarrow", "fasttext", "sentencepiece", "babel", "numpy"}


def packages(folder: pathlib.Path, name: str, *arguments, status: int = 0) -> set[str]:
    """Returns the packages that a command has imported by its end."""
    done = subprocess.run(
        [sys.executable, "-c", _MAIN, name, *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == status, done.stderr.decode()
    modules = json.loads((folder / "modules.json").read_text())
    return {module.split(".")[0] for module in modules}


@pytest.mark.parametrize(
    "name",
    "prepare_data train evaluate compare translate serve verify export plan".split(),
)
def test_help_needs_no_package_that_is_slow_to_import(tmp_path, name):
    assert not packages(tmp_path, name, "--help") & (JAX | STORES | TEXT | {"matplotlib"})
