"""Two processes train on four devices as one does, and translate on two as one does."""
# SPDX-License-Identifier: Apache-2.0

import json
import pathlib
import shutil
import subprocess
import sys

import pytest

from gshard_mt.evaluate import report
from tests.cli.calling import call, first_devices
from tests.making.made_up import english_sentences, translated
from tests.making.runs import Runs, finish, free_port

LINES = [translated(text, "de") for text in english_sentences()[::17]]
ONE_PROGRAM = ("--decode=max_source_length=16", "--decode=batch_size=8")  # for all sentences
LINES[3], LINES[5] = "", "the " * 40  # nothing, and more than a row holds


@pytest.fixture(scope="module")
def home(config, prepared, tmp_path_factory) -> Runs:
    """Run `one` is by a process of four devices; of `two`, the last step by two of two each."""
    lengths = {"num_steps": 24, "eval_every": 24, "save_every": 23, "max_checkpoints": 9}
    dev_bleu = {"bleu_every": 24, "bleu_sentences": 4, "learning_rate": 0.02}
    dev_bleu |= {"sample_translations": 2}
    folder = tmp_path_factory.mktemp("home")
    runs = Runs(folder, config, prepared, num_experts=8, optimizer="adamw", **lengths, **dev_bleu)
    done = runs.call("one", 4)
    assert done.returncode == 0, done.stderr.decode()
    shutil.copytree(folder / "one", folder / "two")
    shutil.rmtree(folder / "two" / "checkpoints" / "24")
    finish(runs.start_two("two", devices=2))
    return runs


@pytest.fixture(scope="module")
def run(home) -> pathlib.Path:
    """The run `one` as if each process simulated two devices; translation uses one of them."""
    folder = home.folder / "run"
    shutil.copytree(home.folder / "one", folder)
    record = json.loads((folder / "config.json").read_text())
    record["config"]["mesh"]["num_cpu_devices"] = 2
    (folder / "config.json").write_text(json.dumps(record))
    return folder


def start_two(name: str, *flags, others: tuple = (), input: str = "") -> list[subprocess.Popen]:
    """Starts a command in two processes; only the first one gets the input."""
    flags = (*flags, f"--coordinator_address=localhost:{free_port()}", "--num_processes=2")
    started = []
    for number, more in ((0, ()), (1, others)):
        words = [sys.executable, "-m", f"gshard_mt.cli.{name}", *map(str, flags), *map(str, more)]
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            [*words, f"--process_id={number}"], stdin=pipe, stdout=pipe, stderr=pipe, text=True
        )
        started.append(process)
        if process.stdin:
            process.stdin.write("" if number else input)
            process.stdin.close()
            process.stdin = None
    return started


def ended(processes: list[subprocess.Popen]) -> list[tuple[int, str, str]]:
    """Returns the status of each process and what it printed."""
    said = [process.communicate(timeout=300) for process in processes]
    return [(each.returncode, *both) for each, both in zip(processes, said, strict=True)]


def test_dev_bleu_is_that_of_one_process(home):
    found, expected = (
        {line["pair"]: line["bleu"] for line in home.lines(name) if "bleu" in line}
        for name in ("two", "one")
    )
    assert found == expected
    assert len(expected) == 3 and max(expected.values()) > 0
    found, expected = (
        [
            line.split(maxsplit=1)[1]
            for line in (home.folder / name / "train.log").read_text(encoding="utf-8").splitlines()
            if line.split()[1] in ("source", "reference", "hypothesis")
        ]
        for name in ("two", "one")
    )
    assert found[-6:] == expected and len(expected) == 6


def test_samples_are_those_of_one_process(home, run):
    flags = (*ONE_PROGRAM, "--sample=0.8", "--nbest=2", "--scores")
    text = "".join(f"{line}\n" for line in LINES)
    with first_devices(2):
        alone = call("translate", "--workdir", home.folder / "one", *flags, input=text.encode())
    assert alone.returncode == 0, alone.stderr.decode()
    processes = start_two("translate", "--workdir", run, *flags, input=text)
    (status, printed, errors), other = ended(processes)
    assert status == 0, errors
    assert printed.encode() == alone.stdout and printed.count("\n") >= len(LINES)
    assert other == (0, "", "")


def test_scores_are_those_of_one_process(home, run):
    text = "".join(f"{line}\t{line[:12]}\n" for line in LINES)
    with first_devices(2):
        one = home.folder / "one"
        alone = call("score", "--workdir", one, *ONE_PROGRAM, input=text.encode())
    assert alone.returncode == 0, alone.stderr.decode()
    processes = start_two("score", "--workdir", run, *ONE_PROGRAM, input=text)
    (status, printed, errors), other = ended(processes)
    assert status == 0, errors
    assert printed.encode() == alone.stdout and printed.count("\n") == len(LINES)
    assert other == (0, "", "")


def test_an_evaluation_is_that_of_one_process(home, run, monkeypatch):
    flags = (*ONE_PROGRAM, "--split=dev", "--step=average", "--baseline")
    monkeypatch.setattr(report, "write", lambda report, folder: folder / "report.html")
    with first_devices(2):
        alone = call("evaluate", "--workdir", home.folder / "one", *flags, home.folder / "one")
    assert alone.returncode == 0, alone.stderr.decode()
    processes = start_two("evaluate", "--workdir", run, *flags, run)
    (status, printed, errors), other = ended(processes)
    assert status == 0, errors
    assert printed.encode() == alone.stdout
    assert other == (0, "", "")
    one, two = (each / "eval" / "average-24" / "dev" for each in (home.folder / "one", run))
    names = [path.name for path in one.iterdir()]
    assert {"table.json", "de-en.hyp.txt"} <= set(names)
    for name in names:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name


def test_processes_with_other_flags_print_one_line_each(run):
    processes = start_two("translate", "--workdir", run, others=("--step=23",), input="a\n")
    for status, printed, errors in ended(processes):
        assert (status, printed) == (2, "")
        assert errors.startswith("error: --step: process 1 of 2 differs from process 0; ")
        assert errors.count("\n") == 1


def test_an_error_of_the_first_process_ends_the_others_too(run, tmp_path):
    flags = ("--workdir", run, "--input", tmp_path / "none")
    first, other = ended(start_two("translate", *flags))
    assert first[:2] == other[:2] == (2, "")
    assert "--input: found" in first[2] and first[2].count("\n") == 1
    assert other[2] == "error: process 0 ended with an error, which it has printed\n"
