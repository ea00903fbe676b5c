"""SIGTERM, SIGINT and the clock: when a run is to save, or to save and end."""
# SPDX-License-Identifier: Apache-2.0

import os
import signal
import threading
import time
from typing import NamedTuple

from jax.sharding import Mesh

from gshard_mt.partitioning.hosts import Poll

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Wish(NamedTuple):
    """What is to be done once a step is finished; the same on all processes."""

    stops: bool  # save and end: a process got a signal
    saves: bool  # it has been long


class Wishes:
    """Takes the signals while it is entered; a second one ends the process at once.

    Clusters send SIGTERM before they take a machine away. Of many processes it is enough that one
    gets it.
    """

    def __init__(self, mesh: Mesh, save_minutes: float):
        self._poll = Poll(mesh, len(Wish._fields))
        self._seconds = 60 * save_minutes
        self._since = time.monotonic()
        self._is_signalled = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> "Wishes":
        if threading.current_thread() is threading.main_thread():  # Python lets no other one
            self._before = {number: signal.signal(number, self._take) for number in SIGNALS}
        return self

    def __exit__(self, *error) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def ask(self) -> Wish:
        """Called once after every step."""
        is_late = bool(self._seconds) and time.monotonic() - self._since >= self._seconds
        return Wish(*self._poll(self._is_signalled, is_late))

    def note_save(self) -> None:
        """Starts the clock again."""
        self._since = time.monotonic()

    def _take(self, number: int, frame: object) -> None:
        del frame
        if self._is_signalled:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self._is_signalled = True
        name = signal.Signals(number).name
        line = f"\n{name}: the step ends and is saved; once more ends at once\n"
        os.write(2, line.encode())  # print isn't safe here
