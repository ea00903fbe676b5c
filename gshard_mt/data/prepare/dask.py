"""The Dask pipeline: runs the tasks of the local one on the workers of a Dask cluster.

Clean text is in `work`, which all machines share. Workers may die: their tasks are run again.
"""
# SPDX-License-Identifier: Apache-2.0

import concurrent.futures
import functools
import logging
import os
from typing import Any

import distributed
from distributed.comm.core import CommClosedError

from gshard_mt.data.prepare.job import Job, Pipeline, PipelineOutput
from gshard_mt.data.prepare.local import run_on
from gshard_mt.data.prepare.workers import Workers
from gshard_mt.documents import in_one_line
from gshard_mt.errors import ConfigError, DataError


def dask_pipeline(address: str) -> Pipeline:
    """Returns a pipeline that runs on the cluster of the scheduler at `address`.

    Workers must see the data directory and the corpora under the driver's paths.
    """
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters is raised
    return functools.partial(_run, address)


def _run(address: str, job: Job) -> PipelineOutput:
    job = job.from_anywhere()
    with _connect(address) as client:
        _check_workers(client, address, job)
        try:
            return run_on(Workers(client.get_executor(), lambda: _num_threads(client)), job)
        except distributed.KilledWorker as error:
            raise DataError(
                f"--dask_scheduler={address}: several workers died of the same task "
                f"({in_one_line(error)}); give them more memory and run it again"
            ) from None
        except (concurrent.futures.CancelledError, CommClosedError):
            raise DataError(
                f"--dask_scheduler={address}: the connection is lost; run it again"
            ) from None


def _connect(address: str) -> distributed.Client:
    try:
        return distributed.Client(address)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"--dask_scheduler: can't connect to {address} ({in_one_line(error)}); accepted: the "
            "address that `dask scheduler` prints"
        ) from None


def _check_workers(client: distributed.Client, address: str, job: Job) -> None:
    """Raises ConfigError if there is no worker, or one that can't work on the job."""
    found: Any = client.run(_sees, str(job.work), on_error="return")
    # The answer of a worker that died meanwhile is an OSError: its connection was closed.
    answers = {name: answer for name, answer in found.items() if not isinstance(answer, OSError)}
    if not answers:
        raise ConfigError(
            f"--dask_scheduler: {address} has no workers; start some with `dask worker {address}`"
        )
    for worker, answer in answers.items():
        if isinstance(answer, Exception):
            raise ConfigError(
                f"--dask_scheduler: worker {worker} can't run gshard-mt ({in_one_line(answer)}); "
                "install the same version there"
            )
        if not answer:
            raise ConfigError(
                f"--dask_scheduler: worker {worker} doesn't see {job.data_dir}; accepted: a "
                "--data_dir that all machines share under one path"
            )


def _num_threads(client: distributed.Client) -> int:
    threads: Any = client.nthreads()  # by worker
    return sum(threads.values())


def _sees(folder: str) -> bool:
    return os.path.isdir(folder)
