"""Commands called as `python -m` calls them: in the test's own process, or in another one."""
# SPDX-License-Identifier: Apache-2.0

import contextlib
import importlib
import io
import os
import re
import runpy
import subprocess
import sys
import types
from collections.abc import Callable
from unittest import mock

from absl import flags


def import_command(name: str) -> types.ModuleType:
    """Returns the module of a command; the flags that it defines are forgotten again."""
    with _flags_of_one_command():
        return importlib.import_module(f"gshard_mt.cli.{name}")


def call(name: str, *arguments, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Calls a command of the package. JAX is shared: it keeps its 8 CPU devices."""
    module = f"gshard_mt.cli.{name}"
    has_one = name in ("evaluate", "score", "translate")
    with one_device() if has_one else contextlib.nullcontext():
        return call_main(
            lambda: runpy.run_module(module, run_name="__main__", alter_sys=True),
            [module, *map(str, arguments)],
            input,
        )


def command(name: str, *arguments, **options) -> subprocess.CompletedProcess:
    """Runs a command in a process of its own; `call` is cheaper where that proves the same."""
    words = [sys.executable, "-m", f"gshard_mt.cli.{name}", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, timeout=300, **options)


def refused(done: subprocess.CompletedProcess) -> str:
    """The one line that a user reads; exit status 2 and nothing else but lines of progress."""
    error = without_progress(done.stderr.decode())
    assert done.returncode == 2, error
    assert len(error.strip().splitlines()) == 1, error
    assert error.startswith("error: ")
    return error


def without_progress(errors: str) -> str:
    """What is on standard error without the lines that begin with the time of day."""
    return re.sub(r"(?m)^\d\d:\d\d:\d\d .*\n", "", errors)


def one_device():
    """Commands that translate see one device, as in a process of their own.

    Inside of `first_devices` they see what it says.
    """
    is_free = "jax" in sys.modules and not isinstance(sys.modules["jax"].devices, mock.Mock)
    return first_devices(1) if is_free else contextlib.nullcontext()


@contextlib.contextmanager
def first_devices(number: int):
    """Commands that are called see only JAX's first devices, as if the run simulated that many."""
    some = sys.modules["jax"].devices()[:number]
    with (
        mock.patch("jax.devices", mock.Mock(return_value=some)),
        mock.patch("gshard_mt.partitioning.mesh.simulate_cpu_devices"),
    ):
        yield


def call_main(
    run: Callable[[], object], argv: list[str], input: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """Returns what `run` prints and its exit status; undoes what it does to flags and sys."""
    if "jax" in sys.modules:
        sys.modules["jax"].devices()  # once started, their number stays
    printed, errors = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with (
        mock.patch.dict(os.environ, GLIBC_TUNABLES=""),  # else keep_buffers starts us again
        mock.patch.object(sys, "argv", argv),
        mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(input))),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(errors),
        _flags_of_one_command(),
    ):
        status = 0
        try:
            run()
        except SystemExit as end:
            status = int(end.code or 0)
        printed.flush()
        errors.flush()
    texts = (stream.buffer.getvalue() for stream in (printed, errors))  # type: ignore
    return subprocess.CompletedProcess(argv, status, *texts)


@contextlib.contextmanager
def _flags_of_one_command():
    """Lets a command define its flags, whatever others defined before it or will after it."""
    _forget_flags()
    try:
        yield
    finally:
        _forget_flags()


def _forget_flags() -> None:
    for module, members in list(flags.FLAGS.flags_by_module_dict().items()):
        for flag in list(members):
            if module.startswith("gshard_mt.cli.startup."):
                flag.unparse()  # it is defined once, when its module is imported
            # absl counts the config's overrides among its own.
            elif not module.startswith("absl.") or flag.name.startswith("config."):
                delattr(flags.FLAGS, flag.name)
    flags.FLAGS.unparse_flags()
