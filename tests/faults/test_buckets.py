"""A run in a bucket, killed in its saves and between them, ends as one on a disk, bit for bit."""
# SPDX-License-Identifier: Apache-2.0

import json
import subprocess

import numpy as np
import pytest

from gshard_mt.storage.bucket_path import BucketPath
from gshard_mt.storage.trees import download_tree
from tests.faults.test_kill import kill_again_and_again, kill_in_a_save
from tests.making import buckets
from tests.making.runs import CLOCKS, Runs, assert_same_bits, finish, saved_arrays


class BucketRuns(Runs):
    """Runs of which the directories are in a bucket, read as any program would."""

    home: BucketPath

    def names(self, run: str) -> list[str]:
        folder = self.home / run
        return [path.relative_to(folder).as_posix() for path in folder.objects()]

    def journal(self, run: str, name: str = "metrics.jsonl") -> list[str]:
        """The lines of the whole object and of the tail that continues it."""
        folder = self.home / run
        whole = (folder / name).read_text() if (folder / name).exists() else ""
        tail = folder / "tails" / name / str(len(whole.encode()))
        try:
            return (whole + tail.read_text()).splitlines()
        except FileNotFoundError:
            return whole.splitlines()

    def lines(self, run: str) -> list[dict]:
        found = map(json.loads, self.journal(run))
        return [{key: line[key] for key in line if key not in CLOCKS} for line in found]

    def half_saved(self, run: str) -> set[str]:
        names = self.names(run)
        begun = {name.split("/")[1] for name in names if name.startswith("checkpoints/")}
        return begun - {name[10:].partition(".")[0] for name in names if "committed/" in name}

    def arrays(self, run: str, step: int) -> dict[str, np.ndarray]:
        copy = self.folder / "copies" / run
        download_tree(self.home / run, copy)
        return saved_arrays(copy, step)


@pytest.fixture(scope="module")
def lengths(soak) -> dict[str, int]:
    return {"num_steps": 40} if soak else {"num_steps": 8}


@pytest.fixture(scope="module")
def on_disk(lengths, config, prepared, tmp_path_factory) -> Runs:
    return Runs(tmp_path_factory.mktemp("disk"), config, prepared, 8, **lengths)


@pytest.fixture
def in_bucket(on_disk, bucket, lengths, config, prepared, tmp_path) -> BucketRuns:
    runs = BucketRuns(tmp_path, config, prepared, 8, **lengths)
    runs.home = bucket
    return runs


def start(runs: Runs, run: str, processes: int) -> list[subprocess.Popen]:
    return [runs.start(run, 4)] if processes == 1 else runs.start_two(run, devices=2)


def assert_same_run(runs: BucketRuns, run: str, on_disk: Runs, processes: int) -> None:
    """It is what as many processes make of it on a disk: others round differently."""
    disk = f"disk.{processes}"
    if not (on_disk.folder / disk).exists():
        finish(start(on_disk, disk, processes))
    steps = {name.split("/")[1] for name in runs.names(run) if name.startswith("checkpoints/")}
    assert steps == {path.name for path in on_disk.checkpoints(disk).iterdir()}
    assert_same_bits(runs.arrays(run, runs.steps), on_disk.arrays(disk, runs.steps))
    assert runs.lines(run) == on_disk.lines(disk)
    routing = (on_disk.folder / disk / "routing.jsonl").read_text(encoding="utf-8")
    assert runs.journal(run, "routing.jsonl") == routing.splitlines()
    assert not runs.half_saved(run)


@pytest.mark.parametrize(("bucket", "processes"), [("gs", 1), ("s3", 2)], indirect=["bucket"])
def test_a_run_in_a_bucket_that_fails_is_killed_in_a_save_and_ends_as_one_on_a_disk(
    processes, in_bucket, on_disk, bucket, monkeypatch
):
    scheme = bucket.parts[0].rstrip(":")
    with buckets.failing(buckets.server(scheme), 0.1) as url:
        for name, value in buckets.environment(scheme, url).items():
            monkeypatch.setenv(name, value)
        killed = kill_in_a_save(in_bucket, "run", start(in_bucket, "run", processes))
        assert killed != "ended before"  # it may be after a save, if listing takes long
        again = start(in_bucket, "run", processes)
        said = [process.communicate(timeout=600) for process in again]  # that the store is busy
        assert [process.returncode for process in again] == [0] * processes, said
        assert_same_run(in_bucket, "run", on_disk, processes)


@pytest.mark.soak
@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_killed_again_and_again_ends_as_one_on_a_disk(processes, in_bucket, on_disk, capsys):
    wanted = {"in a save": 2, "at a random moment": 3}
    counts = kill_again_and_again(
        in_bucket, "run", lambda: start(in_bucket, "run", processes), wanted
    )
    finish(start(in_bucket, "run", processes))
    with capsys.disabled():
        print(f"\nkills: {dict(counts)}")
    assert_same_run(in_bucket, "run", on_disk, processes)
