"""What a command says while it works: lines, and how far it is; logs keep the same lines."""
# SPDX-License-Identifier: Apache-2.0

import contextlib
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import Any, TextIO

import tqdm

_FEWEST, _MOST = 10.0, 60.0  # seconds between two lines, by a tenth of the time so far
_SHORTEST = 1.0  # seconds that a task must take for a line about its end

_logs: list[Any] = []  # binary files without a buffer


def say(text: str, stream: TextIO | None = None) -> None:
    """Prints lines, by default on standard output, above the bar of a terminal.

    Elsewhere each begins with the time of day, as in the logs.
    """
    out, lines = stream or sys.stdout, _stamped(text)
    tqdm.tqdm.write(text if out.isatty() else lines, file=out)
    out.flush()
    _keep(lines)


@contextlib.contextmanager
def kept_in(path: pathlib.Path, opening: str) -> Iterator[None]:
    """Appends `opening` and what is said in this context to a log, and the error that ends it.

    A log is no reason to fail: what can't be written is lost.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            _logs.append(stack.enter_context(path.open("ab", buffering=0)))
            stack.callback(_logs.pop)
        _keep(_stamped(opening))
        try:
            yield
        except BaseException as error:
            _keep(_stamped(f"{type(error).__name__}: {error}"))
            raise


class Bar:
    """How far a task is: a bar in a terminal; elsewhere, and in logs, a line now and then."""

    def __init__(self, what: str, unit: str, total: int | None = None, **options: Any):
        """`unit` is a singular, the options are those of tqdm."""
        self._what, self._unit = what, unit
        self._done, self._is_silent = options.get("initial", 0), options.pop("disable", False)
        is_bar = sys.stderr.isatty() and not self._is_silent
        if options.get("unit_scale"):
            unit = f" {unit}s"
        options |= {"unit": unit, "total": total, "disable": not is_bar, "dynamic_ncols": True}
        self._bar = tqdm.tqdm(desc=what, **options)
        self._text, self._has_reports, self._total, self._said = "", False, total, self._done
        self._began = self._said_at = time.monotonic()
        self._first: tuple[int, float] | None = None  # what was done after the first update, when

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.close("in" if kind is None or self._is_done() else "stopped after")

    def expect(self, total: int) -> None:
        """Sets the total, where it is only estimated at first."""
        self._total = self._bar.total = total

    def update(self, num: int = 1) -> None:
        """Adds what was done since the last call."""
        self._bar.update(num)
        self._done += num
        if num and not self._first:  # compilation, before the first call, tells nothing of speed
            self._said_at = time.monotonic()
            self._first = self._done, self._said_at
        if not self._has_reports and self._is_due():
            self._say(self._text, self._time_left())
        elif self._seconds_silent() >= _MOST and not self._is_done():
            self._say("", self._time_left())  # the last report is of then

    def note(self, text: str) -> None:
        """Shows a text beside what is done."""
        self._text = text
        self._bar.set_postfix_str(text, refresh=False)

    def report(self, text: str) -> None:
        """Shows a text that is of now, so that lines come with it: the first, then now and then."""
        self.note(text)
        self._bar.refresh()
        if self._is_due() or not (self._has_reports or self._is_done()):
            self._say(self._text, self._time_left())
        self._has_reports = True

    def close(self, how: str = "in") -> None:
        """Says how far the task got and how long it took, unless that was nothing."""
        self._bar.close()
        seconds = time.monotonic() - self._began
        if self._said != self._done and (self._has_reports or seconds >= _SHORTEST):
            self._say(self._text, f"{how} {tqdm.tqdm.format_interval(seconds)}")

    def _is_done(self) -> bool:
        """Returns whether `close` will come soon, with a line of its own."""
        return self._total is not None and self._done >= self._total

    def _is_due(self) -> bool:
        seconds = (time.monotonic() - self._began) / 10
        wait = min(max(seconds, _FEWEST), _MOST)
        return self._seconds_silent() >= wait and not self._is_done()

    def _seconds_silent(self) -> float:
        return time.monotonic() - self._said_at

    def _time_left(self) -> str:
        first, since = self._first or (self._done, 0.0)
        if not self._total or self._done == first:
            return ""
        seconds = (time.monotonic() - since) / (self._done - first)
        seconds *= max(0, self._total - self._done)
        return f"{tqdm.tqdm.format_interval(seconds)} left"

    def _say(self, *texts: str) -> None:
        self._said, self._said_at = self._done, time.monotonic()
        if self._is_silent:
            return
        of = f" of {self._total:,}" if self._total else ""
        unit = self._unit if (self._total or self._done) == 1 else f"{self._unit}s"
        done = f"{self._what:<11} {self._done:,}{of} {unit}"
        line = _stamped(", ".join(filter(None, (done, *texts))))
        if not sys.stderr.isatty():
            print(line, file=sys.stderr, flush=True)
        _keep(line)


def _stamped(text: str) -> str:
    now = time.strftime("%H:%M:%S")
    return "\n".join(f"{now} {line}" for line in text.splitlines())


def _keep(lines: str) -> None:
    for log in _logs:
        with contextlib.suppress(OSError):  # a full disk, say
            log.write(f"{lines}\n".encode())
