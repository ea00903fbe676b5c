"""Workers: a pool of spawned processes that run tasks in order, or this process alone."""
# SPDX-License-Identifier: Apache-2.0

import collections
import concurrent.futures
import concurrent.futures.process
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from gshard_mt.errors import DataError

T = TypeVar("T")

_TASKS_AHEAD = 2  # queued tasks per worker


class Workers:
    """A pool of `num_workers` processes (0: one per core; 1: no pool, all runs in this process)."""

    def __init__(self, num_workers: int):
        self.num = num_workers or _num_cores()
        # Spawned, not forked: the parent may have threads.
        self._pool = (
            concurrent.futures.ProcessPoolExecutor(
                self.num, mp_context=multiprocessing.get_context("spawn")
            )
            if self.num > 1
            else None
        )

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *error: Any) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def map(self, function: Callable[..., T], tasks: Iterable[tuple]) -> Iterator[T]:
        """Yields `function(*task)` in the order of tasks, reading only a few of them ahead."""
        if self._pool is None:
            for task in tasks:
                yield function(*task)
            return
        waiting: collections.deque[concurrent.futures.Future[T]] = collections.deque()
        for task in tasks:
            waiting.append(self._pool.submit(function, *task))
            if len(waiting) > self.num * _TASKS_AHEAD:
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())


def run_alone(function: Callable[..., T], *task: Any) -> T:
    """Returns `function(*task)`, run in a separate process whose memory is then freed."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return _result(pool.submit(function, *task))


def _result(future: concurrent.futures.Future[T]) -> T:
    try:
        return future.result()
    except concurrent.futures.process.BrokenProcessPool:
        raise DataError(
            "a worker process was killed, perhaps because memory ran out; run it again with a "
            "smaller data.num_workers or data.vocab_num_sentences"
        ) from None


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
