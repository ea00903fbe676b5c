"""A Dask cluster whose workers are killed writes what the local pipeline does, byte for byte."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import logging
import os
import pathlib
import signal
from collections.abc import Callable

import pytest

distributed = pytest.importorskip("distributed")

import dask.config  # noqa: E402

from gshard_mt.data.prepare import blocks  # noqa: E402
from gshard_mt.data.prepare import dask as dask_module  # noqa: E402
from gshard_mt.data.prepare import local as local_pipeline  # noqa: E402
from gshard_mt.data.prepare.dask import dask_pipeline  # noqa: E402
from gshard_mt.data.prepare.prepare import prepare  # noqa: E402
from gshard_mt.errors import ConfigError, DataError  # noqa: E402
from tests.making.made_up import files_of, write_made_up, write_troubled  # noqa: E402


class _Deadly:
    """A task that kills its worker when its work is done: the first time, or each time."""

    def __init__(self, function: Callable, mark: pathlib.Path | None):
        self.function, self.mark = function, mark

    def __call__(self, *task):
        result = self.function(*task)
        try:
            if self.mark is not None:
                self.mark.touch(exist_ok=False)
        except FileExistsError:
            return result
        os.kill(os.getpid(), signal.SIGKILL)


def _sees_nothing(folder: str) -> bool:
    return False


def _lacks_the_package(folder: str) -> bool:
    raise ModuleNotFoundError("No module named 'gshard_mt'")


@pytest.fixture(scope="module")
def cluster():
    with distributed.LocalCluster(
        n_workers=3, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.CRITICAL
    ) as cluster:
        yield cluster


@pytest.fixture
def address(cluster) -> str:
    with distributed.Client(cluster) as client:
        client.wait_for_workers(3)  # those that another test has killed are started again
    return cluster.scheduler_address


def test_killed_workers_change_no_byte(address, tmp_path, monkeypatch):
    config = dataclasses.replace(write_troubled(tmp_path), num_workers=2)
    monkeypatch.setattr(blocks, "BLOCK_PAIRS", 48)  # in this process, which reads
    monkeypatch.setattr(local_pipeline, "SHARD_BLOCKS", 3)
    manifest, _ = prepare(config, tmp_path / "local")
    assert manifest["pairs"]["de-en"]["drops"]["max_pairs"]
    names = ("clean_block", "drop_duplicates", "drop_held_out", "write_blocks")
    for name in names:
        task = _Deadly(getattr(local_pipeline, name), tmp_path / name)
        monkeypatch.setattr(local_pipeline, name, task)
    monkeypatch.setattr(dask_module, "_sees", _Deadly(dask_module._sees, tmp_path / "_sees"))
    prepare(config, tmp_path / "dask", dask_pipeline(address))
    assert all((tmp_path / name).exists() for name in (*names, "_sees"))
    assert files_of(tmp_path / "dask") == files_of(tmp_path / "local")


def test_a_task_that_kills_every_worker_is_one_line(cluster, address, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster.scheduler, "allowed_failures", 0)
    task = _Deadly(local_pipeline.clean_block, None)
    monkeypatch.setattr(local_pipeline, "clean_block", task)
    with pytest.raises(DataError, match="several workers died of the same task"):
        run = dask_pipeline(address)
        prepare(write_made_up(tmp_path), tmp_path / "data", run)


def test_a_worker_reports_a_user_error(address, tmp_path):
    config = write_made_up(tmp_path)
    with open(tmp_path / "fr.tsv", "a", encoding="utf-8") as file:
        file.write("one column\n")
    with pytest.raises(DataError, match="^.*fr.tsv:201: found 1 columns"):
        prepare(config, tmp_path / "data", dask_pipeline(address))


@pytest.mark.parametrize(
    ("answer", "message"),
    [(_sees_nothing, "doesn't see .*/data; "), (_lacks_the_package, "can't run gshard-mt .No mod")],
)
def test_workers_that_cannot_work_are_refused(address, tmp_path, monkeypatch, answer, message):
    monkeypatch.setattr(dask_module, "_sees", answer)
    with pytest.raises(ConfigError, match=f"^--dask_scheduler: worker tcp://[0-9.:]+ {message}"):
        run = dask_pipeline(address)
        prepare(write_made_up(tmp_path), tmp_path / "data", run)


def test_a_cluster_without_workers_and_an_address_without_a_cluster_are_refused(tmp_path):
    config = write_made_up(tmp_path)
    with distributed.LocalCluster(n_workers=0, dashboard_address=":0") as cluster:
        with pytest.raises(ConfigError, match="has no workers; start some with `dask worker tcp:"):
            prepare(config, tmp_path / "data", dask_pipeline(cluster.scheduler_address))
        address = cluster.scheduler_address
    with dask.config.set({"distributed.comm.timeouts.connect": "100ms"}):
        for each in (address, "tcp://127.0.0.1", "nonsense://x:1"):
            with pytest.raises(ConfigError, match=f"^--dask_scheduler: can't connect to {each} "):
                prepare(config, tmp_path / "data", dask_pipeline(each))
