"""gshard-export as a user types it: one line for errors, and no folder that only looks whole."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import pathlib
import stat
import subprocess
import sys
import time

import pytest

from gshard_mt.export.folder import UNFINISHED
from tests.cli.calling import call, command, refused
from tests.export import plain_model
from tests.export.made_run import make_run


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, config, prepared) -> pathlib.Path:
    data = dataclasses.replace(config)
    folder = tmp_path_factory.mktemp("home")
    return make_run(folder, data, prepared, {"gate": "top1"}, ffn_dim=256).workdir


def test_a_run_becomes_a_folder(workdir, tmp_path):
    out = tmp_path / "new" / "out"
    flags = ("--workdir", workdir, "--out", out, "--step", "best", "--dtype", "bfloat16")
    done = command("export", *flags)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr == b""
    model = plain_model.read(out)
    number = model.config["num_parameters"]
    assert done.stdout.decode().startswith(f"step 3: {number:,} parameters in bfloat16, ")
    file, other = (
        stat.S_IMODE((out / name).stat().st_mode) for name in ("model.safetensors", "README.md")
    )
    assert file == other


def test_a_bad_flag_is_one_line(workdir, tmp_path):
    flags = ("--workdir", workdir)
    line = refused(call("export", *flags, "--out", tmp_path / "out", "--dtype=float16"))
    assert "dtype" in line and "float32" in line
    assert "--out: missing" in refused(call("export", *flags))
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_one_line_and_leaves_nothing(workdir, tmp_path):
    words = [sys.executable, "-m", "gshard_mt.cli.export"]
    words += ["--workdir", str(workdir), "--out", str(tmp_path / "out")]
    limited = ["bash", "-c", 'ulimit -f 40; exec "$@"', "bash", *words]  # KiB
    done = subprocess.run(limited, capture_output=True, timeout=300)
    assert "free some space" in refused(done)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_killed_export_is_no_export_and_the_same_command_makes_it(workdir, tmp_path):
    out = tmp_path / "out"
    words = [sys.executable, "-m", "gshard_mt.cli.export"]
    words += ["--workdir", str(workdir), "--out", str(out)]
    process = subprocess.Popen(words)
    while not (out / UNFINISHED).exists():
        assert process.poll() is None
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert [path.name for path in out.iterdir()] == [UNFINISHED]
    done = command("export", "--workdir", workdir, "--out", out)
    assert done.returncode == 0, done.stderr.decode()
    assert plain_model.read(out).config["step"] == 7
    assert not (out / UNFINISHED).exists()
