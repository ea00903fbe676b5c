"""gshard-prepare-data with a runner: one line where Apache Beam or the runner is missing."""
# SPDX-License-Identifier: Apache-2.0

import subprocess
import sys

import pytest

from tests.making.made_up import write_made_up

_MAIN = """
import sys
if {is_missing}: sys.modules["apache_beam"] = None
from gshard_mt.cli import prepare_data
prepare_data.entry()
"""
_CONFIG = """
from gshard_mt.config.records import Config
def get_config():
    config = Config()
    config.data.recipe = {recipe!r}
    config.data.source_vocab_size = 330
    config.data.target_vocab_size = 290
    return config
"""


def _run(folder, *arguments: str, is_missing: bool = False) -> subprocess.CompletedProcess:
    config = folder / "config.py"
    config.write_text(_CONFIG.format(recipe=write_made_up(folder).recipe))
    command = [sys.executable, "-c", _MAIN.format(is_missing=is_missing), f"--config={config}"]
    command += [f"--data_dir={folder / 'data'}", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_runner_prepares_and_says_nothing_of_its_own(tmp_path):
    done = _run(tmp_path, "--runner=DirectRunner", "--beam_options=--direct_num_workers=1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].endswith("report.md")


@pytest.mark.parametrize(
    ("arguments", "is_missing", "said"),
    [
        (["--runner=DirectRunner"], True, "error: --runner=DirectRunner: Apache Beam is not in"),
        (["--runner=Direct"], False, "error: --runner: found Direct; did you mean DirectRunner?"),
        (["--beam_options=--x=1"], False, "error: --beam_options: found without --runner"),
    ],
)
def test_what_is_missing_for_a_runner_is_one_line(tmp_path, arguments, is_missing, said):
    done = _run(tmp_path, *arguments, is_missing=is_missing)
    assert done.returncode == 2
    assert done.stderr.startswith(said) and done.stderr.count("\n") == 1
