"""The lock of a run directory in a bucket: an object that its owner renews until it is done."""
# SPDX-License-Identifier: Apache-2.0

import contextlib
import json
import os
import pathlib
import socket
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from gshard_mt.errors import CheckpointError, StorageError
from gshard_mt.storage.bucket_path import BucketPath

RENEWED_EVERY, STALE_AFTER, _LOOKS_EVERY = 15.0, 60.0, 3.0  # seconds
_FOLDER = "locks"


class BucketLock:
    """`locks/NUMBER` in a run directory: who created the highest number has the lock.

    Only one process can create the next number. It does so once the owner of the last one is done
    or dead: a process of this machine that is gone, or one that has not renewed its object for
    `STALE_AFTER` seconds.
    """

    def __init__(self, run: BucketPath, log: Callable[[str], None]):
        """Takes the lock. Raises CheckpointError if another process has it."""
        self._run = run
        number, owner = self._newest()
        if not (owner.get("is_done") or _is_gone(owner) or self._is_stale(number, owner, log)):
            raise self._refusal(owner)
        self._number = number + 1
        process = os.getpid()
        self._owner = {
            "host": socket.gethostname(),
            "place": _place(),
            "process": process,
            "began": _began(process),
            "id": uuid.uuid4().hex,
            "renewed": 0,
            "is_done": False,
        }
        if not self._object(self._number).create(self._content()):
            raise self._refusal(self._newest()[1])
        for path in (run / _FOLDER).objects():
            if int(path.name) < self._number:
                path.unlink(missing_ok=True)
        self._last_seen, self._end = time.time(), threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._thread.start()

    def check(self, is_certain: bool = False) -> None:
        """Raises CheckpointError if another process has taken the lock meanwhile.

        Unless that has to be certain, it asks the bucket no more often than the lock is renewed.
        """
        if is_certain or time.time() - self._last_seen > RENEWED_EVERY:
            if self._newest_number() != self._number:
                raise CheckpointError(
                    f"{self._run}: another gshard-train has taken over this run, whose lock was "
                    f"not renewed for {STALE_AFTER:.0f} seconds"
                )
            self._last_seen = time.time()  # this clock also counts while the machine sleeps

    def release(self) -> None:
        """Lets the next process have it at once."""
        self._end.set()
        self._thread.join()
        if self._newest_number() == self._number:
            self._owner["is_done"] = True
            self._object(self._number).write_bytes(self._content())

    def _renew(self) -> None:
        while not self._end.wait(RENEWED_EVERY):
            with contextlib.suppress(StorageError):  # tries again; `check` is what counts
                if self._newest_number() != self._number:
                    return
                self._owner["renewed"] += 1
                self._object(self._number).write_bytes(self._content())

    def _is_stale(self, number: int, owner: dict[str, Any], log: Callable[[str], None]) -> bool:
        """Watches the lock until its owner renews it, or long enough."""
        log(f"waiting     {self._run} is locked by {_describe(owner)}; is it still running?")
        end = time.monotonic() + STALE_AFTER
        while time.monotonic() < end:
            time.sleep(_LOOKS_EVERY)
            now, renewed = self._newest()
            if now != number or renewed != owner:
                return now == number and renewed.get("is_done", False)
        return True

    def _refusal(self, owner: dict[str, Any]) -> CheckpointError:
        return CheckpointError(
            f"{self._run}: another gshard-train uses it ({_describe(owner)}); stop that one "
            "or give another --workdir"
        )

    def _newest_number(self) -> int:
        return max((int(path.name) for path in (self._run / _FOLDER).objects()), default=0)

    def _newest(self) -> tuple[int, dict[str, Any]]:
        number = self._newest_number()
        if not number:
            return 0, {"is_done": True}
        try:
            return number, json.loads(self._object(number).read_bytes())
        except FileNotFoundError:  # there is a newer one by now
            return self._newest()

    def _object(self, number: int) -> BucketPath:
        return self._run / _FOLDER / f"{number:08}"

    def _content(self) -> bytes:
        return json.dumps(self._owner).encode()


def _describe(owner: dict[str, Any]) -> str:
    return f"process {owner['process']} on {owner['host']}"


def _is_gone(owner: dict[str, Any]) -> bool:
    """Returns whether it was a process of this machine that has ended."""
    here = _place()
    return bool(here) and owner["place"] == here and _began(owner["process"]) != owner["began"]


def _place() -> str:
    """Returns in what process numbers count: a start of the machine and a container, or ""."""
    try:
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8")
        return f"{boot.strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _began(process: int) -> str:
    """Returns when a process of this machine began, in clock ticks, or "" if it is none."""
    try:
        status = pathlib.Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except OSError:
        return ""
    fields = status.rpartition(")")[2].split()  # after the name, which may have spaces
    return "" if fields[0] in "ZX" else fields[19]
