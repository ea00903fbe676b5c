"""Every command tells how it is used: a usage line, an example that it accepts, its version."""
# SPDX-License-Identifier: Apache-2.0

import importlib.metadata
import pathlib
import re
import shlex
import tomllib

import pytest

from tests.cli.calling import call

ROOT = pathlib.Path(__file__).parents[2]
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
COMMANDS = {script: entry.partition(":")[0].split(".")[-1] for script, entry in SCRIPTS.items()}


@pytest.mark.parametrize("script", COMMANDS)
def test_help_has_a_usage_line_and_an_example_that_is_accepted(script):
    printed = call(COMMANDS[script], "--help").stdout.decode()
    head, _, list_of_flags = printed.partition("\nFlags:\n")
    assert head.startswith(f"{script}: ")
    assert head.count(f"\nUsage:   {script} ") == head.count("\nExample: ") == 1
    known = re.findall(r"^  --(\[no\])?(\S+)$", list_of_flags, re.MULTILINE)
    accepted = {flag for no, name in known for flag in {name, f"{no.strip('[]')}{name}"}}
    assert set(re.findall(r"--(\w+)(?![\w.])", head)) <= accepted
    examples = re.findall(rf"^(?:Example:|        ) {script} (.*)$", head, re.MULTILINE)
    assert examples
    for words in (shlex.split(re.split(" [<>|] ", example)[0]) for example in examples):
        if words[0].startswith("--"):
            # Refused before anything is done, and after all flags ahead of it were accepted.
            done = call(COMMANDS[script], *words, "--nosuchflag")
            assert done.stderr.decode() == "error: --nosuchflag: unknown flag; see --help\n"


@pytest.mark.parametrize("name", COMMANDS.values())
def test_every_command_tells_its_version(name):
    done = call(name, "--version")
    version = importlib.metadata.version("gshard-mt")
    assert done.returncode == 0 and done.stdout.decode().startswith(f"gshard-mt {version} (jax ")
