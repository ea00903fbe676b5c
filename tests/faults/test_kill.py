"""kill -9 at any moment, in the middle of a save too, and on other meshes: nothing is lost."""
# SPDX-License-Identifier: Apache-2.0

import itertools
import random
import subprocess
from collections import Counter
from collections.abc import Callable

import pytest

from tests.making.runs import Runs, assert_same, assert_same_bits, finish, kill, wait_until


@pytest.fixture(scope="module")
def undisturbed(config, prepared, tmp_path_factory) -> Runs:
    """A run with experts on eight devices, and room for 50 kills and more."""
    runs = Runs(tmp_path_factory.mktemp("killed"), config, prepared, 8, num_steps=200)
    finish([runs.start("undisturbed", 8)])
    return runs


def kill_in_a_save(runs: Runs, run: str, processes) -> str:
    """Waits for a save that this process begins; returns whether the kill came inside it."""
    old = runs.half_saved(run)
    if not wait_until(lambda: runs.half_saved(run) - old, processes):
        return "ended before"
    (half,) = runs.half_saved(run) - old
    kill(processes)
    return "in a save" if half in runs.half_saved(run) else "after a save"


def kill_somewhere(runs: Runs, run: str, processes, rng: random.Random) -> str:
    """Before the first step, or some steps and some milliseconds later."""
    start = runs.last_step(run)
    goal = start + rng.randrange(0, 3)
    seconds = rng.random() * (4 if goal == start else 0.1)
    if goal > start and not wait_until(lambda: runs.last_step(run) >= goal, processes):
        return "ended before"
    try:
        processes[0].wait(seconds)
        return "ended before"
    except subprocess.TimeoutExpired:
        kill(processes)
    return "at a random moment"


def kill_again_and_again(
    runs: Runs, run: str, start: Callable[[], list[subprocess.Popen]], wanted: dict[str, int]
) -> Counter[str]:
    """Starts and kills a run until there were so many of each kind; returns how many there were."""
    rng, counts = random.Random(run), Counter()
    while any(counts[kind] < number for kind, number in wanted.items()):
        assert counts["ended before"] < 5, counts
        left = [kind for kind, number in wanted.items() if counts[kind] < number]
        processes = start()
        if rng.choice(left) == "in a save":
            kind = kill_in_a_save(runs, run, processes)
        else:
            kind = kill_somewhere(runs, run, processes, rng)
        if kind == "ended before":
            finish(processes)
        counts[kind] += 1
    return counts


@pytest.mark.soak  # its short form is one kill in test_stop.py, of the run that it has
def test_a_run_killed_again_and_again_equals_an_undisturbed_one_bit_for_bit(undisturbed, capsys):
    runs, run = undisturbed, "killed"
    wanted = {"in a save": 12, "at a random moment": 45}
    counts = kill_again_and_again(runs, run, lambda: [runs.start(run, 8)], wanted)
    finish([runs.start(run, 8)])
    with capsys.disabled():
        print(f"\nkills: {dict(counts)}")
    assert_same_bits(runs.arrays(run, runs.steps), runs.arrays("undisturbed", runs.steps))
    assert runs.lines(run) == runs.lines("undisturbed")
    routing = [runs.folder / name / "routing.jsonl" for name in (run, "undisturbed")]
    assert routing[0].read_bytes() == routing[1].read_bytes()
    assert not runs.half_saved(run)


@pytest.mark.soak
def test_runs_killed_and_moved_to_other_devices_have_the_same_losses(undisturbed, capsys):
    """Over 40 steps: later, rounding, which is another on every mesh, chooses other experts."""
    runs, steps = undisturbed, 40
    last = f"--config.train.num_steps={steps}"
    homes = itertools.cycle((8, 4, "two processes", 2, 1))
    wanted = {"in a save": 3, "at a random moment": 10}
    expected = [line for line in runs.lines("undisturbed") if line["step"] <= steps]
    counts = Counter()
    for run in (f"moved.{number}" for number in range(4)):

        def start(run: str = run) -> list[subprocess.Popen]:
            home = next(homes)
            is_two = home == "two processes"
            return runs.start_two(run, last) if is_two else [runs.start(run, home, last)]

        counts += kill_again_and_again(runs, run, start, wanted)
        finish([runs.start(run, 8, last)])
        assert_same(runs.lines(run), expected)
    with capsys.disabled():
        print(f"\nkills, each on other devices: {dict(counts)}")
