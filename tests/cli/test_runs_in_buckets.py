"""Commands find runs and exports in buckets as they find them on disks, and say their names."""
# SPDX-License-Identifier: Apache-2.0

import json

import pytest

from gshard_mt.evaluate import report
from gshard_mt.storage.bucket_path import BucketPath
from gshard_mt.storage.trees import upload_tree
from tests.cli.calling import call, first_devices, refused
from tests.making.runs import Runs

TEXT = b"Zwei Hunde spielen.\n"


@pytest.fixture(scope="module")
def runs(config, prepared, tmp_path_factory) -> Runs:
    """A run on a disk."""
    folder = tmp_path_factory.mktemp("runs")
    runs = Runs(folder, config, prepared, num_steps=4, eval_every=4, save_every=2)
    assert runs.call("disk", 2).returncode == 0
    return runs


@pytest.fixture
def run(runs, bucket) -> BucketPath:
    """A copy of it in a bucket, as gshard-train leaves it there."""
    upload_tree(runs.folder / "disk", bucket / "run")
    for step in (2, 4):
        (bucket / "run" / "committed" / f"{step}.0-of-1").write_bytes(b"")
    return bucket / "run"


def good(name: str, *arguments, input: bytes = b"") -> str:
    """What a command prints on both streams."""
    with first_devices(2):
        done = call(name, *arguments, input=input)
    said = done.stdout.decode() + done.stderr.decode()
    assert done.returncode == 0, said
    assert "mirrors/" not in said
    return said


def test_runs_are_evaluated_compared_verified_translated_and_exported(
    run, runs, bucket, monkeypatch
):
    monkeypatch.setattr(report, "write", lambda report, folder: folder / "report.html")
    split = ("--split", "dev")
    said = good("evaluate", "--workdir", run, *split, "--baseline", run)
    assert f"report      {run}/eval/4/dev/report.html" in said
    good("evaluate", "--workdir", runs.folder / "disk", *split)
    folders = [run / "eval" / "4" / "dev", runs.folder / "disk" / "eval" / "4" / "dev"]
    texts = [
        {path.name: path.read_bytes() for path in folder.glob("*.hyp.txt")} for folder in folders
    ]
    assert texts[0] == texts[1] and texts[0]
    said = good("compare", "--eval", run, "--eval", folders[0], "--out", bucket / "both")
    assert f"report      {bucket}/both/comparison.html" in said
    assert (bucket / "both" / "pictures").is_dir()
    assert good("verify", "--workdir", run).split() == ["2", "whole", "4", "whole"]
    expected = good("translate", "--workdir", runs.folder / "disk", input=TEXT).splitlines()[0]
    assert good("translate", "--workdir", run, input=TEXT).splitlines()[0] == expected
    out = bucket / "model"
    assert str(out) in good("export", "--workdir", run, "--out", out)
    assert good("translate", "--model", out, input=TEXT).splitlines()[0] == expected
    (bucket / "text.tsv").write_bytes(b"a\tb\n")
    assert good("score", "--model", out, "--input", bucket / "text.tsv").strip()
    found = refused(call("export", "--workdir", run, "--out", out))
    assert f"{out}: found" in found


def test_a_run_in_a_bucket_begins_another_there(run, runs, bucket):
    with first_devices(2):
        done = runs.call("", 2, f"--workdir={bucket}/next", f"--init_from={run}@4")
    assert done.returncode == 0, done.stderr.decode()
    record = json.loads((bucket / "next" / "config.json").read_bytes())
    assert record["init_from"]["run"] == str(run) and record["init_from"]["step"] == 4
    assert f"begins from {run}@4" in done.stdout.decode()
    committed = [path.name for path in (bucket / "next" / "committed").objects()]
    assert committed == ["0.0-of-1", "2.0-of-1", "4.0-of-1"]


def test_half_a_checkpoint_is_none_and_a_damaged_one_is_set_aside(run, runs):
    (run / "committed" / "4.0-of-1").unlink()
    assert good("verify", "--workdir", run).split() == ["2", "whole"]
    (run / "committed" / "4.0-of-1").write_bytes(b"")
    for path in (run / "checkpoints" / "4" / "params" / "d").objects():
        path.write_bytes(b"rubbish")
    with first_devices(2):
        done = runs.call("", 2, f"--workdir={run}")
    assert done.returncode == 0, done.stderr.decode()
    assert f"moved       checkpoint 4 to {run}/damaged/4" in done.stdout.decode()
    assert (run / "damaged" / "4" / "params").is_dir()
    assert good("verify", "--workdir", run).split() == ["2", "whole", "4", "whole"]


def test_what_is_not_there_or_has_no_form_in_a_bucket_is_refused(run, bucket):
    folder = ("--compilation_cache", bucket / "programs")
    line = refused(call("translate", "--workdir", run, *folder, input=TEXT))
    assert f"--compilation_cache: found {bucket}/programs, in a bucket; accepted: a folder" in line
    line = refused(call("translate", "--workdir", bucket / "none", input=TEXT))
    assert line.startswith(f"error: {bucket}/none/config.json: can't be read")
