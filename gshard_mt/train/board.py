"""A run's scalars for TensorBoard."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
import time
from collections.abc import Mapping
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2
from tensorboardX.summary import scalar

_EVENT = event_pb2.Event  # type: ignore[attr-defined]
_START = event_pb2.SessionLog.START  # type: ignore[attr-defined]


class Board:
    """An event file in a folder, written by the thread that calls.

    tensorboardX's own `SummaryWriter` has a thread for it, whose death by a full disk nobody hears
    of until its queue is full and the run stands still.
    """

    def __init__(self, folder: pathlib.Path, from_step: int):
        """What older files of the folder have of later steps is no longer shown."""
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(str(folder / "events"))
        self._write(_EVENT(step=from_step + 1, session_log={"status": _START}))
        self.flush()

    def write(self, scalars: Mapping[str, float], step: int) -> None:
        """Appends values by name. Raises OSError where there is no room."""
        for name, value in scalars.items():
            self._write(_EVENT(step=step, summary=scalar(name, value)))

    def flush(self) -> None:
        """Waits until all of it is on the disk. Raises OSError where there is no room."""
        self._writer.flush()

    def close(self) -> None:
        """Lets the file go."""
        self._writer.close()

    def _write(self, event: Any) -> None:
        event.wall_time = time.time()
        self._writer.write_event(event)
