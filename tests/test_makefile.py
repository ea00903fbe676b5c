"""make smoke starts anew, but never over a run that somebody trained on."""
# SPDX-License-Identifier: Apache-2.0

import os
import pathlib
import shutil
import subprocess

MAKEFILE = pathlib.Path(__file__).parents[1] / "Makefile"


def test_smoke_keeps_a_run_that_was_trained_on_and_replaces_its_own(tmp_path):
    shutil.copy(MAKEFILE, tmp_path)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / ".installed").touch()
    for name in ("gshard-prepare-data", "gshard-train", "gshard-eval"):
        command = tmp_path / ".venv" / "bin" / name
        command.write_text("#!/bin/sh\nmkdir -p build/smoke/run\n")
        command.chmod(0o755)
    run = tmp_path / "build" / "smoke" / "run"

    def smoke() -> subprocess.CompletedProcess[str]:
        words = ["make", "-C", str(tmp_path), "smoke"]
        return subprocess.run(words, capture_output=True, text=True)

    assert smoke().returncode == 0
    (run / "metrics.jsonl").touch()
    done = run.parent / "finished"
    os.utime(run / "metrics.jsonl", ns=(0, done.stat().st_mtime_ns + 10**9))
    refused = smoke()
    assert refused.returncode == 2 and "error: build/smoke/run was trained on" in refused.stderr
    assert (run / "metrics.jsonl").exists()
    os.utime(run / "metrics.jsonl", ns=(0, done.stat().st_mtime_ns - 10**9))
    assert smoke().returncode == 0 and not (run / "metrics.jsonl").exists()
