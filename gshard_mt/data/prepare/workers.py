"""Workers: processes that run tasks and return their results in order, or this process alone."""
# SPDX-License-Identifier: Apache-2.0

import collections
import concurrent.futures
import concurrent.futures.process
import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from gshard_mt.errors import DataError

T = TypeVar("T")

_TASKS_AHEAD = 2  # queued tasks per worker


class Workers:
    """A pool that runs up to `count()` tasks at once; without a pool they run in this process."""

    def __init__(self, pool: concurrent.futures.Executor | None, count: Callable[[], int]):
        self._pool = pool
        self.count = count

    def map(self, function: Callable[..., T], tasks: Iterable[tuple]) -> Iterator[T]:
        """Yields `function(*task)` in the order of tasks, reading only a few of them ahead."""
        if self._pool is None:
            for task in tasks:
                yield function(*task)
            return
        waiting: collections.deque[concurrent.futures.Future[T]] = collections.deque()
        for task in tasks:
            waiting.append(self._pool.submit(function, *task))
            if len(waiting) > self.count() * _TASKS_AHEAD:
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())


@contextlib.contextmanager
def local_workers(num_workers: int) -> Iterator[Workers]:
    """Starts `num_workers` processes (0: one per core; 1: this one), which end with the block."""
    num = num_workers or _num_cores()
    with _Processes(num) if num > 1 else contextlib.nullcontext() as pool:
        yield Workers(pool, lambda: num)


def run_alone(function: Callable[..., T], *task: Any) -> T:
    """Returns `function(*task)`, run in a separate process whose memory is then freed."""
    with _Processes(1) as pool:
        return _result(pool.submit(function, *task))


class _Processes(concurrent.futures.ProcessPoolExecutor):
    """Processes that Ctrl-C doesn't reach; they are ended if an exception leaves the block."""

    def __init__(self, num: int):
        # Spawned, not forked: the parent may have threads.
        super().__init__(num, mp_context=multiprocessing.get_context("spawn"))

    def submit(self, *args: Any, **kwargs: Any) -> concurrent.futures.Future:
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            return super().submit(*args, **kwargs)  # may start a process, which has the same mask
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def __exit__(self, kind: type[BaseException] | None, *error: Any) -> None:
        if kind is not None:
            for process in list((self._processes or {}).values()):
                process.terminate()
        self.shutdown(wait=True, cancel_futures=True)


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
