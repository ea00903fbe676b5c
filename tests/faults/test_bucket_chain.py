"""Config, text, data, run and model in a bucket whose server fails: all is as on a disk."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import pathlib
import subprocess

import pytest

from gshard_mt.storage.trees import upload_tree
from tests.cli.calling import command
from tests.faults.test_buckets import BucketRuns
from tests.faults.test_kill import kill_again_and_again
from tests.making import buckets
from tests.making.runs import Runs, assert_same_bits, finish

TEXT = b"der kater sieht das haus\n\nZwei Hunde.\n"
KILLS = {"in a save": 1, "at a random moment": 4}


def good(name: str, *words, input: bytes = b"") -> bytes:
    """What a command prints."""
    done = command(name, *words, input=input)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def use(run: pathlib.Path, model: pathlib.Path) -> dict[str, bytes]:
    """What the commands make of a run."""
    good("evaluate", "--workdir", run, "--split=test")
    names = [f"{pair}-en.hyp.txt" for pair in ("de", "fr", "lb")]
    found = {name: (run / "eval" / "40" / "test" / name).read_bytes() for name in names}
    found["translated"] = good("translate", "--workdir", run, input=TEXT)
    good("export", "--workdir", run, "--out", model)
    content = (model / "model.safetensors").read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")  # its keys have no order
    found["model"] = content[header:]
    found["translated by the model"] = good("translate", "--model", model, input=TEXT)
    return found


@pytest.mark.soak
@pytest.mark.parametrize("processes", [1, 2])
def test_everything_may_be_in_a_bucket_that_fails(
    processes, bucket, config, prepared, tmp_path, monkeypatch, capsys
):
    (tmp_path / "there").mkdir()
    (tmp_path / "here").mkdir()
    there = dataclasses.replace(config, recipe="text/recipe.toml")
    runs = BucketRuns(tmp_path / "there", there, prepared, 8, num_steps=40)
    runs.home = bucket
    upload_tree(pathlib.Path(config.recipe).parent, bucket / "text")
    (bucket / "config.py").write_bytes((tmp_path / "there" / "config.py").read_bytes())
    flags = (f"--config={bucket}/config.py", f"--data_dir={bucket}/data")
    scheme = bucket.parts[0].rstrip(":")
    with buckets.failing(buckets.server(scheme), 0.1) as url:
        for name, value in buckets.environment(scheme, url).items():
            monkeypatch.setenv(name, value)
        good("prepare_data", *flags)
        counts = kill_again_and_again(runs, "run", lambda: start(runs, processes, *flags), KILLS)
        end(start(runs, processes, *flags))
        found = use(bucket / "run", bucket / "model")
        arrays, lines = runs.arrays("run", 40), runs.lines("run")
    with capsys.disabled():
        print(f"\nkills: {dict(counts)}")
    disk = Runs(tmp_path / "here", config, prepared, 8, num_steps=40)
    finish(start(disk, processes))
    assert_same_bits(arrays, disk.arrays("run", 40))
    assert lines == disk.lines("run")
    assert found == use(disk.home / "run", disk.home / "model")


def start(runs: Runs, processes: int, *flags: str) -> list[subprocess.Popen]:
    if processes == 2:
        return runs.start_two("run", *flags, devices=2)
    return [runs.start("run", 4, *flags)]


def end(processes: list[subprocess.Popen]) -> None:
    """Waits for the end; standard error may tell of requests that were made again."""
    said = [process.communicate(timeout=600) for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), said
