"""Trackers: what shows the numbers of a run while it trains; TensorBoard is always one."""
# SPDX-License-Identifier: Apache-2.0

import importlib
import importlib.util
import os
import pathlib
import time
import uuid
from collections.abc import Mapping
from typing import Any, Protocol

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2
from tensorboardX.summary import scalar

from gshard_mt.documents import in_one_line, read_json, write_json
from gshard_mt.errors import CheckpointError, ConfigError

SERVICES = ("trackio", "wandb")  # of the extra `track`, with the same functions
PROJECT = "gshard-mt"  # unless the environment names another
FORMAT_VERSION = 1


class Tracker(Protocol):
    """What is told every line of metrics.jsonl and routing.jsonl."""

    def write(self, scalars: Mapping[str, float], step: int) -> None:
        """Adds values by name, such as `dev/de-en/nll`."""

    def flush(self) -> object:
        """Lets others see them."""

    def close(self) -> object:
        """Ends the run, which may be resumed."""


class Board(EventsWriter):
    """An event file of TensorBoard in a folder, written by the calling thread.

    tensorboardX's `SummaryWriter` writes in a thread of its own. If a full disk kills that thread,
    nothing is reported, and the run hangs once the queue is full. All methods raise OSError if the
    disk is full.
    """

    def __init__(self, folder: pathlib.Path, from_step: int):
        """Hides the later steps of older files in the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(str(folder / "events"))
        start = event_pb2.SessionLog.START  # type: ignore[attr-defined]
        self._add(step=from_step + 1, session_log={"status": start})
        self.flush()

    def write(self, scalars: Mapping[str, float], step: int) -> None:
        """Appends values by name."""
        for name, value in scalars.items():
            self._add(step=step, summary=scalar(name, value))

    def _add(self, **fields: Any) -> None:
        event = event_pb2.Event(wall_time=time.time(), **fields)  # type: ignore[attr-defined]
        self.write_event(event)


class TrackedRun:
    """A run of Trackio or Weights & Biases, which a restart continues.

    `tracker.json` in the run directory has its id. A run that goes back to a checkpoint tells some
    steps twice, with the same values.
    """

    def __init__(self, name: str, workdir: pathlib.Path, config: Mapping[str, Any]):
        """Raises ConfigError if the service refuses the run."""
        key, run = _read_id(workdir), workdir.resolve().name
        options: dict[str, Any] = {"name": f"{run}-{key}"}
        if name == "wandb":
            options = {"name": run, "id": key, "dir": str(workdir), "settings": {"console": "off"}}
        project = os.environ.get("WANDB_PROJECT", PROJECT)
        try:
            start = importlib.import_module(name).init
            self._run = start(project=project, resume="allow", config=dict(config), **options)
        except Exception as error:  # each has its own, without a common base
            raise ConfigError(
                f"--tracker: {name} refuses the run ({in_one_line(error)}); accepted: what "
                f"{name} needs, or the same command without --tracker"
            ) from error

    def write(self, scalars: Mapping[str, float], step: int) -> None:
        self._run.log(dict(scalars), step=step)

    def flush(self) -> None:
        """Does nothing: the service sends values by itself."""

    def close(self) -> None:
        self._run.finish()


def check_installed(name: str) -> None:
    """Raises ConfigError if a service's package is missing."""
    found = importlib.util.find_spec(name)
    if not found or not found.origin:  # a folder of that name is no package
        raise ConfigError(
            f"--tracker: found {name}, which is not installed; pip install 'gshard-mt[track]', or "
            "leave --tracker out"
        )


def _read_id(workdir: pathlib.Path) -> str:
    path = workdir / "tracker.json"
    if not path.exists():
        write_json(path, {"format_version": FORMAT_VERSION, "id": uuid.uuid4().hex[:8]})
    remedy = "remove it to begin another run of the tracker"
    return read_json(path, FORMAT_VERSION, CheckpointError, remedy)["id"]
