"""A run on data in a bucket is that on data of a folder, and its evaluation finds them."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
from unittest import mock

import pytest

from gshard_mt.evaluate import report
from gshard_mt.export.training_data import tabulate_corpora
from gshard_mt.run.directory import read_run
from gshard_mt.storage.trees import remove_tree, upload_tree
from tests.cli.calling import call, first_devices
from tests.making.runs import Runs, assert_same_bits


def make(runs: Runs, name: str, data_dir: pathlib.Path) -> dict[str, bytes]:
    """Trains a run and evaluates it; returns its translations."""
    done = runs.call(name, 2, f"--data_dir={data_dir}")
    assert done.returncode == 0, done.stderr.decode()
    with first_devices(2), mock.patch.object(report, "write", lambda _, folder: folder):
        done = call("evaluate", "--workdir", runs.folder / name, "--split=dev")
    assert done.returncode == 0, done.stderr.decode()
    folder = runs.folder / name / "eval" / "4" / "dev"
    return {path.name: path.read_bytes() for path in folder.glob("*.hyp.txt")}


@pytest.fixture(scope="module")
def runs(config, prepared, tmp_path_factory) -> Runs:
    folder = tmp_path_factory.mktemp("runs")
    return Runs(folder, config, prepared, num_steps=4, eval_every=4, save_every=4)


@pytest.fixture(scope="module")
def on_disk(runs, prepared) -> dict[str, bytes]:
    return make(runs, "here", prepared.directory)


def test_data_in_a_bucket_train_and_evaluate_as_those_in_a_folder(bucket, runs, on_disk, prepared):
    upload_tree(prepared.directory, bucket / "data")
    there = bucket.parts[0][:2]
    assert make(runs, there, bucket / "data") == on_disk and len(on_disk) == 3
    assert runs.lines(there) == runs.lines("here")
    assert_same_bits(runs.arrays(there, 4), runs.arrays("here", 4))
    run = read_run(runs.folder / there)
    assert run.data_dir == bucket / "data"
    assert tabulate_corpora(run) == tabulate_corpora(read_run(runs.folder / "here"))
    remove_tree(bucket / "data")
    assert tabulate_corpora(run) is None
