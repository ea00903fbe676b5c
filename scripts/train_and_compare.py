"""Trains, evaluates and compares the runs of an experiment; the comparison is WORKDIR/comparison.

    python scripts/train_and_compare.py EXPERIMENT.toml --data_dir DATA --workdir RUNS

An experiment lists runs, each a config file and overrides; paths are relative to its folder:

    split = "dev"                             # split to evaluate: dev (default) or test
    override = { "train.num_steps" = 1000 }   # for all runs; a run's own overrides come later
    [[run]]
    name = "top1"
    config = "../gates.py"
    override = { "model.moe.gate" = "top1" }
    data = "all"                              # prepared here, in DATA/all; without it DATA is used

The same command again continues where it stopped. With --minutes, trainings still running at the
end of that time save a checkpoint and stop, the remaining work is listed, and the exit status is
3: 0 means that all is done, 2 that something failed. The output of commands is in RUNS/logs. This
script needs a clone: it is not in the wheel.
"""
# SPDX-License-Identifier: Apache-2.0

import argparse
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

from experiments import Experiment, Planned, make_config, read_experiment, read_flags

from gshard_mt.config.keys import PATH_KEYS, differing_keys, is_of_prepared_data
from gshard_mt.errors import ConfigError, UserError
from gshard_mt.run.directory import FREE_KEYS, FREE_SECTIONS, read_run
from gshard_mt.run.journal import read_history
from gshard_mt.storage.bucket_path import BucketPath, open_path

WORK_LEFT = 3  # exit status
STOPPED = (128 + signal.SIGTERM, -signal.SIGTERM)  # exit status of gshard-train; while it starts

_MEMORY = "XLA_PYTHON_CLIENT_MEM_FRACTION"  # share of a GPU's memory for each process


class Job(NamedTuple):
    """A running command."""

    command: str
    run: Planned
    process: subprocess.Popen
    log: pathlib.Path
    since: float


def evaluation(run: Planned, split: str, workdir: pathlib.Path) -> pathlib.Path | None:
    """Returns the folder for a run's evaluation; None if the run still has to be trained.

    A run trained with another config counts as untrained: gshard-train resumes or refuses it. What
    its data are is recorded from the data, and is compared with the experiment's overrides only.
    """
    folder = workdir / run.name
    config = make_config(run)
    step = str(config.train.num_steps)
    if not (folder / "config.json").is_file() or not (folder / "checkpoints" / step).is_dir():
        return None
    differing = differing_keys(read_run(folder).config, config)
    is_other = any(
        key not in FREE_KEYS | PATH_KEYS
        and not key.startswith(FREE_SECTIONS)
        and (key in run.override or not is_of_prepared_data(key))
        for key in differing
    )
    return None if is_other else folder / "eval" / step / split


def left(experiment: Experiment, workdir: pathlib.Path) -> dict[str, str]:
    """Returns the next step of each unfinished run: `train` or `evaluate`."""
    found = {}
    for run in experiment.runs:
        folder = evaluation(run, experiment.split, workdir)
        if folder is None:
            found[run.name] = "train"
        elif not (folder / "table.json").is_file():
            found[run.name] = "evaluate"
    return found


def prepare_words(run: Planned, data_dir: pathlib.Path) -> list[str]:
    """Returns the flags of gshard-prepare-data; with --workdir they are those of gshard-train."""
    words = ["--config", run.config]
    words += [f"--config.{key}={value}" for key, value in run.override.items()]
    return [*words, "--data_dir", str(data_dir / run.data)]


def prepare(run: Planned, flags: argparse.Namespace) -> None:
    """Prepares a run's own data unless it is prepared already. Raises ConfigError on failure."""
    log = log_of("prepare", run, flags.workdir)
    say(f"{'prepare':<11} {run.name}: {log}")
    command = [sys.executable, "-m", "gshard_mt.cli.prepare_data"]
    words = prepare_words(run, flags.data_dir)
    with log.open("ab") as file:
        status = subprocess.run([*command, *words], stdout=file, stderr=file).returncode
    if status:
        raise ConfigError(f"{run.name}: prepare failed, exit status {status}: {last_line(log)}")


def log_of(command: str, run: Planned, workdir: pathlib.Path) -> pathlib.Path:
    log = workdir / "logs" / f"{run.name}.{command}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    return log


def start(command: str, run: Planned, split: str, flags: argparse.Namespace) -> Job:
    """Starts `train` or `evaluate`; its output is appended to its log."""
    words = ["--workdir", str(flags.workdir / run.name), "--split", split]
    if command == "train":
        words = [*prepare_words(run, flags.data_dir), *words[:2]]
    log = log_of(command, run, flags.workdir)
    environment = {_MEMORY: f"{0.9 / flags.jobs:.3f}", **os.environ} if flags.jobs > 1 else None
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", f"gshard_mt.cli.{command}", *words],
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # ctrl-C reaches only this script, which terminates its jobs
        )
    say(f"{command:<11} {run.name}: {log}")
    return Job(command, run, process, log, time.monotonic())


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def run_all(experiment: Experiment, flags: argparse.Namespace, end: float) -> list[str]:
    """Trains and evaluates unfinished runs, --jobs at a time; returns the names of failed ones.

    Evaluations come before further trainings. At `end` (monotonic clock) nothing new is started,
    and trainings are asked to save and stop.
    """
    todo = left(experiment, flags.workdir)
    waiting = [(todo[run.name], run) for run in experiment.runs if run.name in todo]
    waiting.sort(key=lambda both: both[0])  # evaluations first
    under_way, failed, is_told = [], [], False
    try:
        while under_way or (waiting and time.monotonic() < end):
            while waiting and len(under_way) < flags.jobs and time.monotonic() < end:
                under_way.append(start(*waiting.pop(0), experiment.split, flags))
            time.sleep(0.2)
            if not is_told and time.monotonic() >= end:
                is_told = True
                stop([job for job in under_way if job.command == "train"])
            for job in [job for job in under_way if job.process.poll() is not None]:
                under_way.remove(job)
                status = job.process.returncode
                is_stopped = is_told and job.command == "train" and status in STOPPED
                word = "stopped" if is_stopped else f"exit status {status}" if status else "done"
                say(f"{job.command:<11} {job.run.name}: {word} {time_of(job, flags.workdir)}")
                if status == 0 and job.command == "train":
                    waiting.insert(0, ("evaluate", job.run))
                elif status and not is_stopped:
                    failed.append(job.run.name)
                    say(f"            {last_line(job.log)}")
    finally:  # an interrupt
        stop(under_way)
        for job in under_way:
            job.process.wait()
    return failed


def time_of(job: Job, workdir: pathlib.Path) -> str:
    """Returns how long a job took; of a training, also what compilation and evaluations are not."""
    text = f"after {(time.monotonic() - job.since) / 60:.1f} minutes"
    if job.command != "train":
        return text
    seconds = read_history(workdir / job.run.name).training_seconds()
    return f"{text}; training steps took {seconds / 60:.1f} so far"


def stop(jobs: Sequence[Job]) -> None:
    """Terminates running jobs; gshard-train saves a checkpoint first."""
    for job in jobs:
        if job.process.poll() is None:
            job.process.terminate()


def last_line(path: pathlib.Path) -> str:
    """Returns the last line of a log: the reason, if the command refused its input."""
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def work(flags: argparse.Namespace) -> int:
    """Runs the experiment; returns the exit status. Raises ConfigError if commands failed."""
    experiment = read_experiment(flags.experiment, read_flags(flags.override))
    if flags.jobs < 1:
        raise ConfigError(f"--jobs: found {flags.jobs}, accepted: 1 or more")
    if isinstance(flags.workdir, BucketPath):
        raise ConfigError(f"--workdir: found {flags.workdir}, accepted: a folder on a disk")
    workdir, end = flags.workdir, time.monotonic() + 60 * flags.minutes
    todo = left(experiment, workdir)
    for run in experiment.runs:
        if run.data and todo.get(run.name) == "train" and time.monotonic() < end:
            prepare(run, flags)
    failed = run_all(experiment, flags, end)
    compare(experiment, workdir)
    todo = left(experiment, workdir)
    if failed:
        raise ConfigError(f"failed: {', '.join(failed)}; their logs are in {workdir / 'logs'}")
    for name, what in todo.items():
        say(f"remaining   {name}: {what}; run the same command again to continue")
    return WORK_LEFT if todo else 0


def compare(experiment: Experiment, workdir: pathlib.Path) -> None:
    """Compares the evaluated runs if there are at least two."""
    todo = left(experiment, workdir)
    done = [run for run in experiment.runs if run.name not in todo]
    words = []
    for run in done:
        words += ["--eval", str(evaluation(run, experiment.split, workdir)), "--name", run.name]
    if len(done) > 1:
        command = [sys.executable, "-m", "gshard_mt.cli.compare", *words]
        if subprocess.run([*command, "--out", str(workdir / "comparison")]).returncode:
            raise ConfigError("gshard-compare failed; see its message above")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiment", type=pathlib.Path)
    parser.add_argument("--data_dir", type=open_path, required=True)
    parser.add_argument("--workdir", type=open_path, required=True)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="time limit")
    parser.add_argument("--jobs", type=int, default=1, help="simultaneous commands")
    parser.add_argument(
        "--override", metavar="KEY=VALUE", action="append", default=[], help="for all runs"
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sys.exit(work(parser.parse_args()))
    except KeyboardInterrupt:
        sys.exit(130)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
