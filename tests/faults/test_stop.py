"""Signals, full disks, failed saves, locks: each ends as the manual has it, and nothing is lost."""
# SPDX-License-Identifier: Apache-2.0

import errno
import fcntl
import os
import random
import re
import shutil
import signal
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gshard_mt.errors import CheckpointError, TrainingError
from gshard_mt.partitioning.mesh import build_mesh
from gshard_mt.run.checkpoints import Checkpoints
from gshard_mt.run.directory import lock_run
from tests.cli.calling import call, first_devices, refused
from tests.faults.test_kill import kill_again_and_again
from tests.making.runs import Runs, assert_same, assert_same_bits, finish, kill, wait_until
from tests.run.test_checkpoints import fill, shapes_on

STEPS = 40


@pytest.fixture(scope="module")
def runs(config, prepared, tmp_path_factory, soak) -> Runs:
    folder = tmp_path_factory.mktemp("stopped")
    lengths = {"num_steps": 200 if soak else STEPS, "save_every": 8}
    return Runs(folder, config, prepared, optimizer="adamw", l2_sp=5.0, **lengths)


@pytest.fixture(scope="module")
def undisturbed(runs) -> Runs:
    """It begins with the parameters of another run, of eight devices."""
    flags = ("--config.train.num_steps=1", "--config.train.l2_sp=0", "--config.train.seed=5")
    done = runs.call("other", 8, *flags)
    assert done.returncode == 0, done.stderr.decode()
    finish([runs.start("undisturbed", 1, f"--init_from={runs.folder / 'other'}")])
    return runs


def test_a_run_that_is_killed_and_signalled_loses_nothing_and_never_begins_again(
    undisturbed, soak, capsys
):
    """A kill after its first step, signals, a kill in a save: in the end it is the undisturbed one.

    The run that it begins from is gone after the first step.
    """
    runs, run, other = undisturbed, "signalled", undisturbed.folder / "gone"
    shutil.copytree(runs.folder / "other", other)
    long = [f"--config.train.{name}=100000" for name in ("num_steps", "eval_every", "save_every")]
    processes = [runs.start(run, 1, f"--init_from={other}", *long)]
    assert wait_until(lambda: runs.last_step(run) >= 1, processes)
    kill(processes)
    assert [path.name for path in runs.checkpoints(run).iterdir()] == ["0"]
    shutil.rmtree(other)
    (runs.folder / run / "metrics.jsonl").unlink()  # the next process counts from 1
    rng, cuts, stops, said = random.Random(9), set(), 0, []
    while stops < (20 if soak else 1):
        goal = runs.last_step(run) + rng.randrange(1, 6)
        number = rng.choice([signal.SIGTERM, signal.SIGTERM, signal.SIGINT])  # SIGINT comes first
        processes = [runs.start(run, 1)]
        if not wait_until(lambda goal=goal: runs.last_step(run) >= goal, processes):
            finish(processes)
            break
        ((printed, errors),) = kill(processes, number)
        assert processes[0].returncode == 143, (printed, errors)
        (step,) = re.findall(r"stopped     after step (\d+), which is saved", printed)
        assert number.name in errors and "Traceback" not in errors
        assert (runs.checkpoints(run) / step).is_dir()
        cuts.add(int(step))
        said.append(printed)
        stops += 1
    assert "resuming    from step 0" in said[0] and "init  " not in said[0]
    kills = kill_again_and_again(runs, run, lambda: [runs.start(run, 1)], {"in a save": 1})
    finish([runs.start(run, 1)])
    with capsys.disabled():
        print(f"\nkills: {dict(kills)}, signals: {stops}")
    assert not runs.half_saved(run)
    assert_same_bits(runs.arrays(run, runs.steps), runs.arrays("undisturbed", runs.steps))
    assert runs.lines(run) == runs.lines("undisturbed")  # a line for every step, so none is cut


def test_one_process_of_two_gets_a_signal_and_both_save_and_end(undisturbed):
    """They begin from the run of another mesh and another number of processes."""
    runs, run = undisturbed, "signalled_two"
    processes = runs.start_two(run, f"--init_from={runs.folder / 'other'}", devices=1)
    assert wait_until(lambda: runs.last_step(run) >= 2, processes)
    processes[1].send_signal(signal.SIGTERM)
    said = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [143, 143], said
    assert "which is saved" in said[0][0]
    assert not any("Traceback" in errors for _, errors in said)
    lines = runs.lines(run)  # and so far they have trained like one
    assert_same(lines, runs.lines("undisturbed")[: len(lines)])


def test_a_second_signal_ends_at_once(runs):
    processes = [runs.start("twice", 1, "--config.train.eval_every=1", "--config.train.l2_sp=0")]
    assert wait_until(lambda: runs.last_step("twice") >= 1, processes)
    processes[0].send_signal(signal.SIGTERM)
    for line in processes[0].stderr:  # it is said that the first has come
        if "SIGTERM" in line:
            break
    kill(processes, signal.SIGTERM)
    assert processes[0].returncode in (-signal.SIGTERM, 143)


def test_a_full_disk_leaves_older_checkpoints_whole_and_says_so(undisturbed):
    runs, run = undisturbed, "full"
    shutil.copytree(runs.folder / "undisturbed", runs.folder / run)
    shutil.rmtree(runs.checkpoints(run) / str(runs.steps))
    *_, older, last = sorted(int(path.name) for path in runs.checkpoints(run).iterdir())
    processes = [runs.start(run, 1, before="ulimit -f 40")]  # KiB: metrics, no checkpoint
    ((printed, errors),) = [process.communicate(timeout=120) for process in processes]
    assert processes[0].returncode == 2, (printed, errors)
    expected = rf"error: .*checkpoints: saving checkpoint {runs.steps} failed \(.*complete: "
    line = errors.splitlines()[-1]
    assert re.match(rf"{expected}.*{older}, {last}\.", line), line
    assert "Traceback" not in errors
    for step in (older, last):
        assert_same_bits(runs.arrays(run, step), runs.arrays("undisturbed", step))


@pytest.fixture(scope="module")
def state():
    return fill(shapes_on(build_mesh(1, 1, devices=jax.devices()[:1])), seed=0)


def test_a_save_that_fails_behind_the_scenes_fails_the_run(state, tmp_path, monkeypatch):
    import orbax.checkpoint as ocp

    def fail(*arguments, **options):
        raise OSError("the storage went away")

    checkpoints = Checkpoints(tmp_path, max_checkpoints=3)
    checkpoints.save(1, state.params, state.opt_state, {}, {})
    checkpoints.wait()
    monkeypatch.setattr(ocp.AsyncCheckpointer, "check_for_errors", fail)
    with pytest.raises(TrainingError, match=r"the storage went away; .*complete: 1\."):
        checkpoints.save(2, state.params, state.opt_state, {}, {})
        checkpoints.check()
    monkeypatch.undo()
    checkpoints.close()


def test_two_trainers_of_one_run_directory(undisturbed, tmp_path):
    with lock_run(tmp_path, print):
        with pytest.raises(CheckpointError, match=r"another gshard-train .*process \d+ on "):
            with lock_run(tmp_path, print):
                pass
    with lock_run(tmp_path, print):  # it is free again
        pass
    with lock_run(undisturbed.folder / "undisturbed", print):
        error = refused(undisturbed.call("undisturbed", 1))
    assert "another gshard-train uses it" in error


def test_a_file_system_without_locks_is_reported(tmp_path, monkeypatch):
    def flock(file, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    logged: list[str] = []
    with lock_run(tmp_path, logged.append):
        (line,) = logged
    assert line.startswith(f"no lock     {tmp_path}: its file system has no locks (No locks avail")


def test_devices_that_disagree_stop_the_run(tmp_path):
    """A device whose copy of a parameter has one bit flipped."""
    mesh = build_mesh(2, 4)
    state = fill(shapes_on(mesh), seed=0)
    good = state.params["source_embedding_VM"]
    copies = [np.asarray(shard.data).copy() for shard in good.addressable_shards]
    copies[5].view(np.uint32)[2, 3] ^= 1
    bad = jax.make_array_from_single_device_arrays(
        good.shape,
        good.sharding,
        [
            jax.device_put(jnp.asarray(copy), shard.device)
            for copy, shard in zip(copies, good.addressable_shards, strict=True)
        ],
    )
    checkpoints = Checkpoints(tmp_path, max_checkpoints=1)
    params = {**state.params, "source_embedding_VM": bad}
    with pytest.raises(TrainingError, match=r"^params/source_embedding_VM: .*different copies"):
        checkpoints.save(1, params, state.opt_state, {}, {})
    checkpoints.close()


def test_verify_says_which_checkpoints_are_whole(undisturbed, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(undisturbed.folder / "undisturbed", run)

    def verify() -> subprocess.CompletedProcess[bytes]:
        with first_devices(1):
            return call("verify", "--workdir", run)

    done = verify()
    steps = sorted(map(int, os.listdir(run / "checkpoints")))
    assert (done.returncode, done.stderr) == (0, b"")
    assert [line.split() for line in done.stdout.decode().splitlines()] == [
        [str(step), "whole"] for step in steps
    ]
    (run / "checkpoints" / str(steps[-1]) / "state" / "metadata").write_text("{}")
    done = verify()
    assert [line.split()[1] for line in done.stdout.decode().splitlines()] == [
        *("whole" for _ in steps[1:]),
        "damaged:",
    ]
    assert "damaged: " in refused(done)
