"""Compiled programs: how long they take, and JAX's cache of them, by default next to the run."""
# SPDX-License-Identifier: Apache-2.0

import functools
import glob
import os
import pathlib
import re
import sys
import threading
import warnings
from typing import Any

import jax
import zstandard

from gshard_mt.console import say
from gshard_mt.partitioning.hosts import is_writer
from gshard_mt.run.mirror import find_mirror
from gshard_mt.storage.cache import cache_folder

# JAX's events for a program, in this order; it reports the beginning and the end of each.
_EVENTS = tuple(
    f"/jax/core/compile/{name}_duration"
    for name in ("jaxpr_trace", "jaxpr_to_mlir_module", "backend_compile")
)
_PATIENCE = 2.0  # seconds; what compiles in less is not worth a line


def keep_programs(workdir: pathlib.Path, folder: str | None = None) -> bool:
    """Has JAX keep compiled programs in a folder; returns whether that can be written.

    The default is what `JAX_COMPILATION_CACHE_DIR` says, else `.compilation_cache` next to the run
    directory, or if that is in a bucket in this machine's cache. Call it before anything compiles.
    Programs are keyed by what they compute, the devices, the processor's features and jaxlib's
    version, so many runs can share a folder, and a folder may be moved. Only process 0 writes. A
    program that was written only in part is compiled and written again.
    """
    beside = cache_folder() if find_mirror(workdir) else workdir / ".."
    default = os.environ.get("JAX_COMPILATION_CACHE_DIR") or beside / ".compilation_cache"
    path = pathlib.Path(os.path.abspath(folder or default))
    nearest = next(each for each in (path, *path.parents) if each.exists())
    if not (nearest.is_dir() and os.access(nearest, os.W_OK)):
        return False
    jax.config.update("jax_compilation_cache_dir", str(path))
    # All of them, not only those that took a second: the next start then compiles nothing.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    if not glob.glob("/dev/nvidia[0-9]*"):
        # A cache of autotuning that only GPUs need; its path would be a part of every key.
        jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
    _replace_damaged()
    return True


@functools.cache
def _replace_damaged() -> None:
    """Has programs deleted that JAX warns it can't read; it would leave them as they are."""
    show = warnings.showwarning

    def delete(message: Warning | str, *others: Any) -> None:
        found = re.match(
            "Error reading persistent compilation cache entry for '(.*?)'", str(message)
        )
        if not found:
            show(message, *others)
            return
        folder = pathlib.Path(jax.config.jax_compilation_cache_dir)  # type: ignore
        for path in folder.glob(f"{glob.escape(found[1])}-*-cache"):
            try:
                zstandard.ZstdDecompressor().decompress(path.read_bytes())
            except zstandard.ZstdError:
                path.unlink(missing_ok=True)

    warnings.showwarning = delete


class CompileClock:
    """Adds up how long JAX traces and compiles, and says on standard error when that takes long.

    It counts per thread: `seconds` is what the thread that asks has spent.
    """

    def __init__(self):
        self._threads = threading.local()
        jax.monitoring.register_scalar_listener(self._begin)
        jax.monitoring.register_event_duration_secs_listener(self._end)

    @property
    def seconds(self) -> float:
        """The time since the clock was made."""
        return self._own.seconds

    @property
    def _own(self) -> "_Compilations":
        if not hasattr(self._threads, "own"):
            self._threads.own = _Compilations()
        return self._threads.own

    def _begin(self, event: str, *_, **__) -> None:
        if event in _EVENTS:
            self._own.begin()

    def _end(self, event: str, duration_secs: float, **__) -> None:
        if event in _EVENTS:
            self._own.end(duration_secs, is_last=event == _EVENTS[-1])


class _Compilations:
    """Those of one thread. A program is traced, lowered and compiled, which may be nested."""

    def __init__(self):
        self.seconds = self._of_program = 0.0
        self._depth, self._is_said = 0, False
        self._timer = threading.Timer(_PATIENCE, self._say)

    def begin(self) -> None:
        self._depth += 1
        if self._depth == 1 and not self._is_said:
            self._timer = threading.Timer(_PATIENCE, self._say)
            self._timer.daemon = True
            self._timer.start()

    def end(self, seconds: float, is_last: bool) -> None:
        self._depth -= 1
        if self._depth:
            return
        self._timer.cancel()
        self.seconds += seconds
        self._of_program += seconds
        if not is_last:
            return
        if self._is_said:
            say(f"compiled in {self._of_program:.1f} s", sys.stderr)
        self._of_program, self._is_said = 0.0, False

    def _say(self) -> None:
        if is_writer():
            self._is_said = True
            say("compiling ...", sys.stderr)


@functools.cache
def compile_clock() -> CompileClock:
    """Returns the clock of this process, which runs from the first call on."""
    return CompileClock()
