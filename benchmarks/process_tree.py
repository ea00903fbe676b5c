"""Memory of a command and all its children, sampled 20 times a second until it ends."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import psutil

_EVERY = 0.05  # seconds between two samples
_CHILDREN_EVERY = 0.25  # seconds between two scans of all processes for children
_EXACT_EVERY = 1.0  # least seconds between two samples that cost more than RSS
_HIGH_WATER = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


@dataclass
class Usage:
    """Peaks are bytes of physical memory.

    PSS divides a shared page among all processes that map it, other users' too: on a busy machine
    it is a little low. The sum of RSS is too high.
    """

    measure: str = "rss"  # pss | uss | rss: how the next two are measured
    peak: int = 0  # of the tree without the marked processes
    marked_peak: int = 0  # of the marked processes
    rss_peak: int = 0  # sum of RSS over the tree without the marked processes
    # Peak RSS of the largest single process, marked ones included, as recorded by the kernel.
    # ru_maxrss won't do: a child inherits its parent's, which would be ours.
    largest: int = 0
    seconds: float = 0.0
    marked: list[float] = field(
        default_factory=list
    )  # times of samples with a marked process, since the start


def run_and_watch(command: Sequence[str], log: pathlib.Path, mark: pathlib.Path) -> Usage:
    """Runs a command with its output in `log`; returns its time and peaks.

    Processes whose ids are in the file `mark` while it exists are summed separately until they end.
    Reading PSS walks page tables, so it is read only at a new peak of RSS and once a second.
    Raises SystemExit, with the end of the log, if the command fails.
    """
    usage, marked, alive = Usage(_best_measure()), set(), []
    highest = [0, 0]
    with open(log, "wb") as output:
        start = exact = time.perf_counter()
        looked = 0.0
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        while process.poll() is None:
            now = time.perf_counter()
            if now - looked > _CHILDREN_EVERY:
                alive, looked = _tree(process.pid), now
            marked |= _ids(mark)
            rss = _sums(alive, marked, "rss")
            if rss[1]:
                usage.marked.append(now - start)
            is_higher = any(new > old for new, old in zip(rss, highest, strict=True))
            if is_higher or now - exact > _EXACT_EVERY:
                highest = [max(each) for each in zip(rss, highest, strict=True)]
                rest, apart = _sums(alive, marked, usage.measure)
                exact = now
                usage.peak = max(usage.peak, rest)
                usage.marked_peak = max(usage.marked_peak, apart)
            usage.largest = max([usage.largest, *map(_high_water, alive)])
            time.sleep(_EVERY)
        usage.seconds, usage.rss_peak = time.perf_counter() - start, highest[0]
    if process.returncode:
        end = log.read_text(encoding="utf-8", errors="replace")[-2000:]
        raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}\n{end}")
    return usage


def _tree(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return []


def _high_water(process: psutil.Process) -> int:
    try:
        found = _HIGH_WATER.search(pathlib.Path(f"/proc/{process.pid}/status").read_text())
    except OSError:
        return 0
    return int(found[1]) << 10 if found else 0


def _ids(mark: pathlib.Path) -> set[int]:
    try:
        return {int(word) for word in mark.read_text().split()}
    except (OSError, ValueError):
        return set()


def _best_measure() -> str:
    names = psutil.Process().memory_full_info()._fields
    return next(name for name in ("pss", "uss", "rss") if name in names)


def _sums(processes: Sequence[psutil.Process], marked: set[int], measure: str) -> list[int]:
    """Returns bytes of (the others, the marked); a process that has just ended counts as 0."""
    sums = [0, 0]
    for process in processes:
        try:
            if measure == "rss":
                memory = process.memory_info()
            else:
                memory = process.memory_full_info()
        except psutil.Error:
            continue
        sums[process.pid in marked] += getattr(memory, measure)
    return sums
