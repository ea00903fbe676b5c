"""The command line answers mistakes with one line and exit status 2, and bugs with a traceback."""
# SPDX-License-Identifier: Apache-2.0

import os
import pathlib
import runpy
import subprocess
import sys

import pytest

from gshard_mt.config.keys import KEYS
from gshard_mt.config.load import starters
from gshard_mt.partitioning import libtpu
from tests.cli.calling import call_main

NAMES = ", ".join(starters())

COMMAND = '''"""Trains a model, as a test."""
from absl import flags
from gshard_mt.cli import flags as cli_flags
from gshard_mt.config.keys import get_value
from gshard_mt.errors import DataError

cli_flags.define_config()
WORKDIR = flags.DEFINE_string("workdir", None, "Where the run goes.", required=True)
SAY = flags.DEFINE_string("say", "", "Key to print.")
WAYS = ["no", "user", "bug", "memory", "interrupt", "closed"]
FAIL = flags.DEFINE_enum("fail", "no", WAYS, "How to fail.")

def main():
    config = cli_flags.read_config()
    if SAY.value:
        print(get_value(config, SAY.value))
        return
    print(config.model.num_layers, config.data.joint_vocabulary, config.train.learning_rate)
    if FAIL.value == "user":
        raise DataError("corpus.tsv:3: found 1 column, accepted: 2")
    if FAIL.value == "memory":
        raise RuntimeError("INTERNAL: Out of memory allocating 4294967296 bytes.")
    if FAIL.value == "bug":
        raise RuntimeError("a bug")
    if FAIL.value == "interrupt":
        import jax
        raise KeyboardInterrupt
    if FAIL.value == "closed":
        open("config.py/run/config.json")

entry = cli_flags.command(main)
'''

CONFIG = """from gshard_mt.config import Config

def get_config():
    config = Config()
    config.model.num_layers = 8
    return config
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("command")
    (folder / "command.py").write_text(COMMAND)
    (folder / "config.py").write_text(CONFIG)
    return folder


@pytest.fixture
def call(folder, monkeypatch):
    """Calls the command in this process."""
    monkeypatch.chdir(folder)

    def call(*arguments: str) -> tuple[int, str, str]:
        done = call_main(
            lambda: runpy.run_path("command.py", run_name="__main__"), ["command.py", *arguments]
        )
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    return call


def start(folder: pathlib.Path, *arguments: str) -> tuple[int, str, str]:
    """Runs the command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "command.py", *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(pathlib.Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


def test_overrides_reach_the_config_and_nothing_is_said_on_stderr(folder):
    found = start(
        folder, "--config=config.py", "--config.model.num_layers=12", "--workdir", "run",
        "--config.data.joint_vocabulary", "--config.train.learning_rate", "0.5",
    )  # fmt: skip
    assert found == (0, "12 True 0.5\n", "")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--config.modle.num_layers=6"],
         "config.modle.num_layers: unknown key; did you mean model.num_layers?"),
        (["--config.model.num_layer=6"],
         "config.model.num_layer: unknown key; did you mean num_layers?"),
        (["--config.model.expert_dropout_rate=0.3"],
         "config.model.expert_dropout_rate: renamed to model.ffn_dropout_rate"),
        (["--config.train.num_steps=abc"],
         "config.train.num_steps: found 'abc', accepted: an integer"),
        (["--config.train.num_steps", "1.5"],
         "config.train.num_steps: found '1.5', accepted: an integer"),
        (["--config.train.learning_rate=fast"],
         "config.train.learning_rate: found 'fast', accepted: a number"),
        (["--config.data.joint_vocabulary=perhaps"],
         "config.data.joint_vocabulary: found 'perhaps', accepted: true or false"),
        (["--noconfig.train.num_steps"],
         "config.train.num_steps: takes a value; accepted: --config.train.num_steps=VALUE"),
        (["--config.model=6"],
         "config.model: a section; accepted: one of its keys, such as model.num_layers"),
        (["--config.model.num_layers=6"],
         "config.model.num_layers: found 6, accepted: a multiple of 4 (encoder and decoder are "
         "two equal stacks of [MoE, dense] blocks)"),
        (["--config.train.stages=()"],
         "config.train.stages: found on the command line; set it in the config file"),
        (["--num_steps=10"], "--num_steps: unknown flag; did you mean --config.train.num_steps?"),
        (["--moe.gate=top1"], "--moe.gate: unknown flag; did you mean --config.model.moe.gate?"),
        (["--seed", "1"],
         "--seed: unknown flag; did you mean --config.data.seed or --config.train.seed?"),
        (["--work_dir=run"], "--work_dir: unknown flag; did you mean --workdir?"),
        (["--fail=sometimes"],
         "flag --fail=sometimes: value should be one of <no|user|bug|memory|interrupt|closed>"),
        (["train"], "train: unexpected argument; every setting is --flag=value"),
        (["--fail=user"], "corpus.tsv:3: found 1 column, accepted: 2"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_exit_status_2(call, arguments, message):
    status, _, errors = call("--config=config.py", "--workdir=run", *arguments)
    assert (status, errors) == (2, f"error: {message}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=config.py"], "--workdir: missing; accepted: --workdir=VALUE (see --help)"),
        (["--workdir=run"], "--config: missing; accepted: --config=VALUE (see --help)"),
        (["--workdir=run", "--config=absent.py"],
         f"absent.py: no such file; accepted: the path of a config file, or one of {NAMES}"),
        (["--workdir=run", "--config=smok"],
         f"smok: no such file; accepted: the path of a config file, or one of {NAMES}"),
        (["--workdir=run", "--config=recipe.toml"],
         "recipe.toml: found TOML; accepted: a Python file that defines get_config() (a recipe "
         "goes to --config.data.recipe=recipe.toml)"),
    ],
)  # fmt: skip
def test_missing_flags_and_files_are_named(folder, call, arguments, message):
    (folder / "recipe.toml").write_text('name = "mine"\n')
    assert call(*arguments) == (2, "", f"error: {message}\n")


def test_a_config_of_the_package_is_found_by_its_name(call):
    assert call("--config=small", "--workdir=run") == (0, "4 False 0.006\n", "")


def test_paths_are_relative_to_the_config_or_on_the_command_line_to_where_one_stands(folder, call):
    text = CONFIG.replace("num_layers = 8", "num_layers = 4\n    config.data.recipe = 'own.toml'")
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "own.py").write_text(text)
    own = ("--config=elsewhere/own.py", "--workdir=run", "--say=data.recipe")
    assert call(*own) == (0, "elsewhere/own.toml\n", "")
    assert call(*own, "--config.data.recipe=mine.toml") == (0, "mine.toml\n", "")
    assert call(*own, "--config.data.recipe=") == (0, "\n", "")


@pytest.mark.parametrize(
    "text, message",
    [
        ("def get_config(:\n", "broken.py:1: invalid syntax"),
        (CONFIG.replace("num_layers", "num_layer"),
         "broken.py:5: config.model.num_layer: unknown key; did you mean num_layers?"),
        ("import dataclasses\nfrom gshard_mt.config.records import ModelConfig\ndef get_config():\n"
         "    return dataclasses.replace(ModelConfig(), num_layer=6)\n",
         "broken.py:4: config.model.num_layer: unknown key; did you mean num_layers?"),
        ("def get_config():\n    return {}\n",
         "broken.py: get_config() returned a dict, accepted: gshard_mt.config.Config"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_config_file_names_its_line(folder, call, text, message):
    (folder / "broken.py").write_text(text)
    status, _, errors = call("--config=broken.py", "--workdir=run")
    assert status == 2 and errors.startswith(f"error: {message}") and errors.count("\n") == 1


def test_a_config_in_a_file_of_flags_is_checked_like_one_on_the_command_line(folder, call):
    (folder / "empty.py").write_text("")
    (folder / "some.flags").write_text("--config=empty.py\n--workdir=run\n")
    expected = "error: empty.py: no get_config(); accepted: a file that defines it\n"
    assert call("--flagfile=some.flags") == (2, "", expected)
    (folder / "some.flags").write_text("--config=config.py\n--config.model.num_layer=6\n")
    status, _, errors = call("--flagfile=some.flags", "--workdir=run")
    assert status == 2 and "unknown key; did you mean num_layers?" in errors
    status, _, errors = call("--flagfile=absent.flags")
    assert status == 2 and "absent.flags" in errors and errors.count("\n") == 1


def test_a_bug_keeps_its_traceback(folder):
    status, _, errors = start(folder, "--config=config.py", "--workdir=run", "--fail=bug")
    assert status == 1 and "Traceback" in errors and "RuntimeError: a bug" in errors


def test_a_lack_of_memory_is_one_line(call):
    status, _, errors = call("--config=config.py", "--workdir=run", "--fail=memory")
    expected = "error: out of memory (an allocation of 4,096 MiB was refused) with this model and"
    assert status == 2 and errors.startswith(expected) and errors.count("\n") == 1
    assert "gshard-plan" in errors


def test_libtpu_is_a_compiler_only_on_a_machine_without_tpus(folder):
    lines = ["import os, gshard_mt.cli.flags", "print(os.environ.get('TPU_ACCELERATOR_TYPE'))"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TPU_")}
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], env=environment, capture_output=True, text=True
    )
    assert (done.stdout.strip() == "None") == libtpu.is_tpu_host()


def test_an_interrupt_is_quiet_while_jax_is_running(folder):
    done = start(folder, "--config=config.py", "--workdir=run", "--fail=interrupt")
    assert done[0] == 130 and done[1].startswith("8 ") and not done[2]


def test_help_shows_our_flags_and_every_key(call):
    status, printed, _ = call("--help")
    assert status == 0 and printed.startswith("Trains a model, as a test.\n")
    assert "--workdir\n      Where the run goes." in printed
    key = "--config.model.moe.num_experts=8\n      E, in every other layer (accepted: 0 (a dense"
    assert key in printed
    assert all(f"\n  --config.{key}=" in printed for key in KEYS)
    assert "pdb" not in printed


def test_a_path_without_access_is_one_line(call):
    status, _, errors = call("--config=config.py", "--workdir=run", "--fail=closed")
    expected = "error: config.py/run/config.json: Not a directory; give a path that can be read"
    assert status == 2 and errors.startswith(expected) and errors.count("\n") == 1


def test_help_into_a_closed_pipe_is_quiet():
    reader, writer = os.pipe()
    os.close(reader)
    words = [sys.executable, "-m", "gshard_mt.cli.plan", "--help"]
    done = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, timeout=60)
    os.close(writer)
    assert done.returncode == 141 and not done.stderr
