"""The progress file beside an output: how much of it is written, and by which task."""
# SPDX-License-Identifier: Apache-2.0

import fcntl
import glob
import hashlib
import os
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, BinaryIO, NamedTuple

from gshard_mt.decode.translation import MAX_NAMED
from gshard_mt.documents import read_json, write_json
from gshard_mt.errors import ConfigError
from gshard_mt.storage.bucket_path import open_path
from gshard_mt.storage.cache import local_copy

FORMAT_VERSION = 1
SUFFIX = ".progress"

_SHOWN = 16  # characters of a value in a message


class Done(NamedTuple):
    """How many lines are done, and how many of them were too long or split into sentences."""

    num_lines: int = 0
    num_too_long: int = 0
    first_too_long: tuple[int, ...] = ()  # numbers of lines, from 1
    num_split: int = 0

    def add(self, num_lines: int, too_long: Sequence[int], num_split: int = 0) -> "Done":
        """Returns the sum with a further window; `too_long` has the numbers of such lines."""
        return Done(
            self.num_lines + num_lines,
            self.num_too_long + len(too_long),
            (*self.first_too_long, *too_long)[:MAX_NAMED],
            self.num_split + num_split,
        )


class Progress:
    """An output that is written window by window and can be continued after the last one.

    The progress file has the bytes that the output had after a window, their hash, `done`, the task
    and the checkpoint. It is replaced once the window is on the disk, so a process that is killed
    leaves at most a part of one window too much, which `begin` cuts off.
    """

    def __init__(self, path: str, output: BinaryIO, task: Mapping[str, Any], verb: str):
        """Locks the output and reads its progress file; changes neither.

        A task is what determines the output, by name, apart from the checkpoint; `verb`, such as
        `translate`, tells in messages what the command does with lines. Raises ConfigError if
        another process writes the output, if it was begun by another task, and if it isn't what its
        progress file describes.
        """
        self._output, self._name, self._task, self._verb = output, path, dict(task), verb
        self._path = pathlib.Path(path + SUFFIX)
        self._remedy = f"to start over, remove {path} and {self._path}"
        self._hash = hashlib.sha256()
        self._model: dict[str, str] = {}  # none yet
        self._num_bytes = 0
        self.done, self.is_finished = Done(), False
        self._lock()
        if self._path.exists():
            self._read()
        elif os.fstat(output.fileno()).st_size:
            raise ConfigError(
                f"--resume: found {path} without {self._path}, which says how much of it is done; "
                "accepted: an output that --resume began, or another file; to start over, remove it"
            )

    @property
    def is_begun(self) -> bool:
        """Whether an earlier start has begun the output."""
        return bool(self._model)

    @property
    def checkpoint(self) -> str:
        """The checkpoint that the output was begun with, such as `4`; empty if it wasn't begun."""
        return self._model.get("checkpoint", "")

    def describe(self) -> str:
        """Returns the message about what an earlier start has done."""
        by = f"{self.done.num_lines:,} lines are {self._verb}d by checkpoint {self.checkpoint}"
        if self.is_finished:
            return f"finished    {self._name}: all {by}; there is nothing to do"
        return f"resumed     {self._name}: {by}"

    def has_checkpoint(self, saved: Collection[int]) -> bool:
        """Tells whether the checkpoint that the output was begun with is among the saved steps."""
        return self.checkpoint.rpartition("-")[2] in map(str, saved)

    def choose_step(self, step: str, saved: Collection[int]) -> str:
        """Returns the step to load: `latest` and `best` are what they were when the task began.

        Raises ConfigError if that one is not among the saved steps.
        """
        if step != self._model.get("step") or not self.checkpoint.isdigit():
            return step
        if not self.has_checkpoint(saved):
            raise ConfigError(
                f"--step: found {step}, but {self._name} was begun with checkpoint "
                f"{self.checkpoint}, which the run no longer has; {self._remedy}"
            )
        return self.checkpoint

    def check_checkpoint(self, step: str, checksum: str) -> None:
        """Raises ConfigError if the output was begun with other parameters."""
        if self.is_begun and checksum != self._model["checksum"]:
            raise ConfigError(
                f"--step: found {step} with other parameters than those of checkpoint "
                f"{self.checkpoint}, with which {self._name} was begun; give its --workdir and "
                f"--step, or, {self._remedy}"
            )

    def begin(self, step: str, checkpoint: str, checksum: str) -> None:
        """Cuts off what was written after the last whole window."""
        for draft in glob.glob(f"{glob.escape(str(self._path))}.*.tmp"):
            os.unlink(draft)  # of a process that was killed
        if not self.is_begun:
            self._model = {"step": step, "checkpoint": checkpoint, "checksum": checksum}
            self._write()
        self._output.truncate(self._num_bytes)

    def add(self, text: bytes, done: Done) -> None:
        """Writes a window; when this returns, the window is not written again."""
        self._output.write(text)
        self._output.flush()
        os.fsync(self._output.fileno())
        self._hash.update(text)
        self._num_bytes += len(text)
        self.done = done
        self._write()

    def finish(self) -> None:
        """Notes that there are no more lines."""
        self.is_finished = True
        self._write()

    def _lock(self) -> None:
        """Locks the output until it is closed, where the file system has locks."""
        try:
            fcntl.flock(self._output, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"--output: found {self._name}, which another gshard-{self._verb} --resume "
                "writes; accepted: another file, or wait until that one ends"
            ) from None
        except OSError:
            pass

    def _read(self) -> None:
        content = read_json(self._path, FORMAT_VERSION, ConfigError, self._remedy)
        try:
            self._check_task(content["task"])
            self._model = {name: content[name] for name in ("step", "checkpoint", "checksum")}
            self._num_bytes, self.is_finished = content["num_bytes"], content["is_finished"]
            done = Done(**content["done"])
            self.done = done._replace(first_too_long=tuple(done.first_too_long))
            self._check_output(content["sha256"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{self._path}: incomplete ({error!r}); {self._remedy}") from None

    def _check_task(self, begun: Mapping[str, Any]) -> None:
        for name in dict.fromkeys([*self._task, *begun]):
            found, expected = self._task.get(name), begun.get(name)
            if found != expected:
                found, expected = (str(value)[:_SHOWN] for value in (found, expected))
                raise ConfigError(
                    f"{name}: found {found}, accepted: {expected}, with which {self._name} was "
                    f"begun, or another --output; {self._remedy}"
                )

    def _check_output(self, expected: str) -> None:
        """Hashes what is done of the output. Raises ConfigError if it is not what was written."""
        left = self._num_bytes
        with open(self._name, "rb") as file:
            while chunk := file.read(min(left, 1 << 20)):
                self._hash.update(chunk)
                left -= len(chunk)
        if left or self._hash.hexdigest() != expected:
            raise ConfigError(
                f"--output: found {self._name}, which was changed after {self._path} was written; "
                f"accepted: another file; {self._remedy}"
            )

    def _write(self) -> None:
        content = {"format_version": FORMAT_VERSION, "task": self._task, **self._model}
        content |= {"done": self.done._asdict(), "num_bytes": self._num_bytes}
        content |= {"sha256": self._hash.hexdigest(), "is_finished": self.is_finished}
        write_json(self._path, content, indent=2, ensure_ascii=False)


def describe_inputs(paths: Sequence[str]) -> dict[str, Any]:
    """Returns a task's inputs: their number and the hash of each one's bytes."""
    inputs: dict[str, Any] = {"number of --input": len(paths)}
    for number, path in enumerate(paths, 1):
        with open(local_copy(open_path(path)), "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        inputs[f"content of --input {number}"] = digest
    return inputs
