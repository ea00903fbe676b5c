"""kill -9 at any moment, in the middle of a save too, and on other meshes: nothing is lost."""
# SPDX-License-Identifier: Apache-2.0

import random

import pytest

from tests.faults.runs import Runs, assert_same_bits, finish, kill, wait_until
from tests.train.test_many_processes import assert_same

KINDS: tuple[str, ...] = ("in a save", "after a save", "at a random moment", "ended before")


@pytest.fixture(scope="module")
def runs(config, prepared, tmp_path_factory, soak) -> Runs:
    """In the long form 50 kills and more have to find a place in it."""
    folder = tmp_path_factory.mktemp("killed")
    return Runs(folder, vars(config), prepared.directory, steps=200 if soak else 24)


@pytest.fixture(scope="module")
def undisturbed(runs) -> Runs:
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
    goal = runs.last_step(run) + rng.randrange(0, 5)
    start = runs.last_step(run)
    seconds = rng.random() * (4 if goal == start else 0.1)
    if goal > start and not wait_until(lambda: runs.last_step(run) >= goal, processes):
        return "ended before"
    try:
        processes[0].wait(seconds)
        return "ended before"
    except Exception:
        kill(processes)
    return "at a random moment"


def test_a_run_killed_again_and_again_equals_an_undisturbed_one_bit_for_bit(
    undisturbed, soak, capsys
):
    runs, run = undisturbed, "killed"
    rng = random.Random(6)
    wanted: dict[str, int] = (
        {"in a save": 12, "at a random moment": 45}
        if soak
        else {"in a save": 1, "at a random moment": 1}
    )
    counts: dict[str, int] = dict.fromkeys(KINDS, 0)
    while any(counts[kind] < number for kind, number in wanted.items()):
        assert counts["ended before"] < 5, counts
        left = [kind for kind, number in wanted.items() if counts[kind] < number]
        processes = [runs.start(run, 8)]
        if rng.choice(left) == "in a save":
            kind = kill_in_a_save(runs, run, processes)
        else:
            kind = kill_somewhere(runs, run, processes, rng)
        if kind == "ended before":
            finish(processes)
        counts[kind] += 1
    ((printed, errors),) = finish([runs.start(run, 8)])
    with capsys.disabled():
        print(f"\nkills: {counts}")
    assert "Traceback" not in errors
    assert_same_bits(runs.arrays(run, runs.steps), runs.arrays("undisturbed", runs.steps))
    assert runs.lines(run) == runs.lines("undisturbed")
    routing = [runs.folder / name / "routing.jsonl" for name in (run, "undisturbed")]
    assert routing[0].read_bytes() == routing[1].read_bytes()
    assert not runs.half_saved(run)


def test_a_run_killed_and_moved_to_other_devices_has_the_same_losses(undisturbed, soak, capsys):
    """Over 40 steps: later, rounding, which is another on every mesh, chooses other experts."""
    runs, run = undisturbed, "moved"
    rng, steps = random.Random(7), min(runs.steps, 40)
    last = f"--config.train.num_steps={steps}"
    homes = [8, 4, "two processes", 2, 1] * 2 if soak else ["two processes", 4, 1]
    kills = 0
    for home in homes:
        goal = min(runs.last_step(run) + rng.randrange(4, 7), steps - 1)
        is_two = home == "two processes"
        processes = runs.start_two(run, last) if is_two else [runs.start(run, home, last)]
        if wait_until(lambda goal=goal: runs.last_step(run) >= goal, processes):
            kill(processes)
            kills += 1
        else:
            finish(processes)
    finish([runs.start(run, 8, last)])
    with capsys.disabled():
        print(f"\nkills, each on other devices: {kills}")
    expected = [line for line in runs.lines("undisturbed") if line["step"] <= steps]
    assert_same(runs.lines(run), expected)
