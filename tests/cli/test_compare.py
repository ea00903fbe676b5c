"""gshard-compare as a user types it."""
# SPDX-License-Identifier: Apache-2.0

import os

from tests.cli.calling import call, refused
from tests.evaluate.made_evaluations import REFERENCES, leave


def test_compare_prints_the_tables_and_writes_them(tmp_path):
    folders = [leave(tmp_path / name, REFERENCES) for name in ("one", "two")]
    evals = [word for folder in folders for word in ("--eval", folder)]
    done = call("compare", *evals, "--name", "first", "--name", "two", "--out", tmp_path / "c")
    assert done.returncode == 0, done.stderr.decode()
    said = done.stdout.decode()
    assert said.startswith("Runs:") and "\nfirst " in said and "\nTarget tokens to a dev" in said
    assert "sacrebleu" not in done.stderr.decode() and "significance" not in done.stderr.decode()
    assert done.stderr.decode().endswith(f"\nreport      {tmp_path / 'c' / 'comparison.html'}\n")
    assert "\nBLEU; a star marks a difference to first at p < 0.05" in said
    assert "--name: found 1, accepted: 2" in refused(
        call("compare", *evals, "--name", "first", "--out", tmp_path / "c")
    )
    assert "found one, accepted: two" in refused(
        call("compare", *evals[:2], "--out", tmp_path / "c")
    )
    newest = leave(tmp_path / "two", REFERENCES, nlls=(5.0, 4.0, 3.0))
    os.utime(newest / "table.json", (2e9, 2e9))
    runs = [word for name in ("one", "two") for word in ("--eval", tmp_path / name)]
    done = call("compare", *runs, "--out", tmp_path / "c")
    assert f"evaluation  {tmp_path / 'two'}: step 30, test\n" in done.stderr.decode()
    assert "table.json: can't be read" in refused(
        call("compare", *evals, "--eval", tmp_path, "--out", tmp_path / "c")
    )
