"""What a command imports, so that one without a model starts fast and needs little."""
# SPDX-License-Identifier: Apache-2.0

import json
import pathlib
import subprocess
import sys

import pytest

from tests.cli.test_commands import CONFIG
from tests.evaluate.made_evaluations import REFERENCES, leave
from tests.export.made_run import make_run
from tests.making.made_up import write_made_up

_MAIN = """
import atexit, json, runpy, sys
atexit.register(lambda: json.dump(list(sys.modules), open("modules.json", "w")))
runpy.run_module("gshard_mt.cli." + sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""
EXPERTS = ("--config.model.num_layers=4", "--config.model.moe.num_experts=8")
JAX = {"jax", "jaxlib", "flax", "optax"}
STORES = {"orbax", "tensorflow_datasets", "tensorboardX"}
TEXT = {"pyarrow", "fasttext", "sentencepiece", "babel", "array_record", "numpy"}


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


def test_comparing_two_evaluations_needs_no_jax(tmp_path):
    folders = [leave(tmp_path / name, REFERENCES) for name in ("one", "two")]
    evals = [word for folder in folders for word in ("--eval", folder)]
    found = packages(tmp_path, "compare", *evals, "--out", tmp_path / "out")
    assert not found & (JAX | STORES)
    assert {"matplotlib", "sacrebleu"} <= found  # it did what it is for


def test_planning_opens_no_checkpoint_and_no_data(tmp_path):
    data = write_made_up(tmp_path)
    (tmp_path / "config.py").write_text(CONFIG.format(data=data), encoding="utf-8")
    # Eight experts on three devices are refused last, after everything has been imported.
    arguments = ("--config=config.py", "--topology=cpu:3", *EXPERTS)
    found = packages(tmp_path, "plan", *arguments, status=2)
    assert "jax" in found
    assert not found & STORES


def test_a_translation_imports_nothing_of_training_and_reports(tmp_path, config, prepared):
    workdir = make_run(tmp_path / "made", config, prepared, {"num_experts": 0}).workdir
    (tmp_path / "source.txt").write_text("Hund\n", encoding="utf-8")
    flags = ("--workdir", workdir, "--input", tmp_path / "source.txt")
    found = packages(tmp_path, "translate", *flags)
    assert {"jax", "orbax"} <= found
    others = {"tensorflow_datasets", "tensorboardX", "pyarrow", "array_record", "matplotlib"}
    assert not found & (others | {"sacrebleu", "starlette", "uvicorn"})


@pytest.mark.parametrize(
    "name",
    "prepare_data train evaluate compare translate score serve verify export plan".split(),
)
def test_help_needs_no_package_that_is_slow_to_import(tmp_path, name):
    assert not packages(tmp_path, name, "--help") & (JAX | STORES | TEXT | {"matplotlib"})


def test_a_config_is_refused_before_jax_is_imported(tmp_path):
    data = write_made_up(tmp_path)
    (tmp_path / "config.py").write_text(CONFIG.format(data=data), encoding="utf-8")
    bad = ("--config=config.py", "--config.model.moe.gate=top3")
    for name, *more in (
        ("prepare_data", "--data_dir=data"),
        ("train", "--data_dir=data", "--workdir=run"),
        ("plan", "--topology=cpu:8"),
    ):
        assert not packages(tmp_path, name, *bad, *more, status=2) & (JAX | STORES)
