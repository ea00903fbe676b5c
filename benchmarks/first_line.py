"""Time from a command to its first line: gshard-translate, gshard-eval and gshard-serve of a run.

python -m benchmarks.first_line --workdir RUN [--line "Das Haus ist groß."] [--rounds 5]

A cold start finds no compiled program, a warm one those of the start before it.
"""
# SPDX-License-Identifier: Apache-2.0

import contextlib
import http.client
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from absl import flags

from benchmarks.machine import describe_machine
from gshard_mt.cli import flags as cli_flags

_WORKDIR = cli_flags.define_workdir()
_LINE = flags.DEFINE_string("line", "Das Haus ist groß.", "The sentence to translate.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Number of cold starts, and of warm ones.", 1)
_COMMANDS = flags.DEFINE_list("commands", ["translate", "evaluate", "serve"], "What to start.")


def main() -> None:
    """Prints one row per command: the median and all times of its cold and its warm starts."""
    starts = {"translate": _translate, "evaluate": _evaluate, "serve": _serve}
    for name in _COMMANDS.value:
        seconds: dict[str, list[float]] = {"cold": [], "warm": []}
        for _ in range(_ROUNDS.value):
            with tempfile.TemporaryDirectory() as cache:
                for kind, found in seconds.items():
                    found.append(_time(starts[name], cache))
                    print(f"{name} {kind}: {found[-1]:.2f} s", file=sys.stderr)
        row = {"benchmark": "first_line", "command": name}
        for kind, found in seconds.items():
            row |= {f"{kind}_seconds": statistics.median(found), f"all_{kind}_seconds": found}
        print(json.dumps(row | describe_machine()), flush=True)


def _time(start: Callable[[Callable[..., subprocess.Popen]], None], cache: str) -> float:
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": cache}

    def begin(name: str, *arguments: object) -> subprocess.Popen:
        words = [sys.executable, "-m", f"gshard_mt.cli.{name}", "--workdir", _WORKDIR.value]
        return subprocess.Popen(
            [*words, *map(str, arguments)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    since = time.monotonic()
    start(begin)
    return time.monotonic() - since


def _translate(begin: Callable[..., subprocess.Popen]) -> None:
    process = begin("translate")
    found, _ = process.communicate(_LINE.value + "\n")
    assert process.returncode == 0 and found.strip()


def _evaluate(begin: Callable[..., subprocess.Popen]) -> None:
    with tempfile.TemporaryDirectory() as out:
        process = begin("evaluate", "--out", out)
        found, _ = process.communicate()
        assert process.returncode == 0 and "BLEU" in found
        assert any(pathlib.Path(out).rglob("*.hyp.txt"))


def _serve(begin: Callable[..., subprocess.Popen]) -> None:
    """Waits until the service is ready."""
    process = begin("serve", "--port", 0)
    assert process.stdout
    port = int(process.stdout.readline().split("://")[1].split()[0].rsplit(":", 1)[1])
    while not _is_ready(port):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.wait()


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False


cli_flags.command(main)
