"""Scripts make no local folder of a bucket's name."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
import subprocess
import sys

import pytest

SCRIPTS = pathlib.Path(__file__).parents[2] / "scripts"
GATES = SCRIPTS.parent / "configs" / "experiments" / "gates.toml"


@pytest.mark.parametrize(
    "words",
    [
        ["fetch_corpora.py", "tatoeba", "--yes", "--folder", "gs://bucket/d"],
        ["train_and_compare.py", str(GATES), "--data_dir=gs://bucket/d", "--workdir=gs://b/r"],
    ],
    ids=lambda words: words[0],
)
def test_a_folder_that_must_be_on_a_disk_is_asked_for(words, tmp_path):
    words = [sys.executable, str(SCRIPTS / words[0]), *words[1:]]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr.endswith(", accepted: a folder on a disk\n")
    assert not list(tmp_path.iterdir())
