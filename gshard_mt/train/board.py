"""The scalars of a run, written for TensorBoard."""
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
    """An event file in a folder, written by the calling thread.

    tensorboardX's `SummaryWriter` writes in a thread of its own. If a full disk kills that thread,
    nothing is reported, and the run hangs once the queue is full.
    """

    def __init__(self, folder: pathlib.Path, from_step: int):
        """Hides the later steps of older files in the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(str(folder / "events"))
        self._write(_EVENT(step=from_step + 1, session_log={"status": _START}))
        self.flush()

    def write(self, scalars: Mapping[str, float], step: int) -> None:
        """Appends values by name. Raises OSError if the disk is full."""
        for name, value in scalars.items():
            self._write(_EVENT(step=step, summary=scalar(name, value)))

    def flush(self) -> None:
        """Writes everything to the disk. Raises OSError if it is full."""
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()

    def _write(self, event: Any) -> None:
        event.wall_time = time.time()
        self._writer.write_event(event)
