"""SIGTERM, SIGINT and the clock: when a run should save, or save and stop."""
# SPDX-License-Identifier: Apache-2.0

import os
import signal
import threading
import time
from typing import NamedTuple

from jax.sharding import Mesh

from gshard_mt.partitioning.hosts import Poll

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest(NamedTuple):
    """What to do once the current step is finished; the same on all processes."""

    stop: bool  # save and exit: a process received a signal
    save: bool  # the save interval has elapsed


class PreemptionHandler:
    """Catches the signals while entered; a second signal ends the process at once.

    Clusters send SIGTERM before they reclaim a machine. With several processes, it is enough that
    one receives it. `jax.experimental.multihost_utils.reached_preemption_sync_point` serves SIGTERM
    only, not SIGINT, the clock or a single process.
    """

    def __init__(self, mesh: Mesh, save_minutes: float):
        self._poll = Poll(mesh, len(StopRequest._fields))
        self._seconds = 60 * save_minutes
        self._last_save = time.monotonic()
        self._is_signalled = False
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> "PreemptionHandler":
        if threading.current_thread() is threading.main_thread():  # others can't set handlers
            self._previous = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, *error) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def poll(self) -> StopRequest:
        """Returns the request; all processes call it once after every step."""
        has_elapsed = bool(self._seconds) and time.monotonic() - self._last_save >= self._seconds
        return StopRequest(*self._poll(self._is_signalled, has_elapsed))

    def note_save(self) -> None:
        """Restarts the save interval."""
        self._last_save = time.monotonic()

    def _handle(self, number: int, frame: object) -> None:
        del frame
        if self._is_signalled:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self._is_signalled = True
        name = signal.Signals(number).name
        line = f"\n{name}: finishing the step and saving; a second signal stops at once\n"
        os.write(2, line.encode())  # print isn't safe in a signal handler
