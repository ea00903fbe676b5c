"""Whatever lines come, as many go out, in order, and memory stays flat."""
# SPDX-License-Identifier: Apache-2.0

import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import threading
import time

import psutil
import pytest

from tests.cli.calling import call, first_devices, without_progress
from tests.making.made_up import english_sentences, translated
from tests.making.runs import Runs

WINDOW = 64  # lines
# The command, whose own windows are longer.
SHORT_WINDOWS = f"from gshard_mt.cli import translate; translate.WINDOW = {WINDOW}; "
COMMAND = [sys.executable, "-c", SHORT_WINDOWS + "translate.entry()"]

TRAIN = (
    *("--config.train.num_steps=4", "--config.decode.beam_size=1"),
    *("--config.decode.batch_size=8", "--config.decode.max_length_factor=0.5"),
    "--config.decode.max_source_length=16",  # one program for all
)
WEIRD = [
    b"",
    b"   \t  ",
    "\u200b\u200d\ufeff".encode(),
    "слово ".encode() * 1_000,
    "中文 العربية ქართული 🙂 ᚠᚢᚦ".encode(),
    b"a\x00b\x0bc\x0cd\x1ce",
    "line\u2028separator\u0085inside".encode(),
    b"<b>&amp;</b> {{ 7 * 7 }} %s $(id)",
    b"ends with a carriage return\r",
    b"x" * 5_000,
]


@pytest.fixture(scope="module")
def runs(config, prepared, tmp_path_factory, soak) -> Runs:
    folder = tmp_path_factory.mktemp("under_fire")
    runs = Runs(folder, config, prepared, num_steps=4, optimizer="adamw")
    many = ("--config.decode.batch_size=512",) if soak else ()
    done = runs.call("run", 1, *TRAIN, *many)
    assert done.returncode == 0, done.stderr.decode()
    return runs


def start(runs: Runs, command: list[str] = COMMAND) -> subprocess.Popen:
    pipe = subprocess.PIPE
    words = [*command, "--workdir", str(runs.folder / "run")]
    return subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe)


def ask(process: subprocess.Popen, lines: list[bytes]) -> list[bytes]:
    """Sends lines, and only then reads as many."""
    assert process.stdin and process.stdout
    process.stdin.write(b"".join(line + b"\n" for line in lines))
    process.stdin.flush()
    return [process.stdout.readline() for _ in lines]


PLAIN = [translated(text, "de").encode() for text in english_sentences()[:20]]


@pytest.fixture(scope="module")
def asked(runs) -> tuple[subprocess.Popen, list[bytes]]:
    """A process that has translated plain lines, and what it answered."""
    process = start(runs)
    return process, ask(process, PLAIN)


def test_each_line_is_answered_at_once(runs, asked):
    process = start(runs, [*COMMAND, "--interactive"])
    for line, answer in zip(PLAIN[:4], asked[1], strict=False):
        assert ask(process, [line]) == [answer]
    assert ask(process, PLAIN[4:7]) == asked[1][4:7]
    out, errors = process.communicate()
    assert process.returncode == 0 and not out and b"translate " not in errors  # no bar


def test_a_terminal_is_answered_line_by_line(runs, asked):
    terminal, ours = os.openpty()
    words = [*COMMAND, "--workdir", str(runs.folder / "run")]
    pipe = subprocess.PIPE
    process = subprocess.Popen(words, stdin=ours, stdout=pipe, stderr=pipe)
    assert process.stdout and process.stderr
    assert process.stderr.readline() == b"enter a line to translate it; ctrl-D ends\n"
    for line, answer in zip(PLAIN[:2], asked[1], strict=False):
        os.write(terminal, line + b"\n")
        assert process.stdout.readline() == answer
    os.write(terminal, b"\x04")  # ctrl-D
    out, errors = process.communicate()
    assert process.returncode == 0 and not out and b"translate " not in errors  # no bar
    os.close(terminal), os.close(ours)


def test_as_many_lines_come_out_as_go_in_and_in_their_order(runs, asked):
    lines = [line for pair in zip(WEIRD, PLAIN, strict=False) for line in pair]
    out, errors = start(runs).communicate(b"\n".join(lines))  # the last has no line end
    found = out.split(b"\n")
    assert found.pop() == b"" and len(found) == len(lines), errors
    assert found[0] == found[2] == found[4] == b""  # nothing to translate
    assert "have a sentence longer than decode.max_source_length=16, split" in errors.decode()
    assert b"Traceback" not in errors and b"Warning" not in errors
    alone = [line.removesuffix(b"\n") for line in asked[1]]
    assert found[1::2] == alone[: len(WEIRD)]
    for line in found:
        line.decode("utf-8")
        assert b"\r" not in line


def evaluate(runs: Runs, data_dir: pathlib.Path) -> tuple[int, str]:
    """Returns the exit status and what is on standard error."""
    with first_devices(1):
        done = call("evaluate", "--workdir", runs.folder / "run", "--data_dir", data_dir)
    return done.returncode, without_progress(done.stderr.decode())


def test_whatever_the_sentences_are_each_is_scored(runs, prepared, tmp_path):
    data_dir = shutil.copytree(prepared.directory, tmp_path / "data")
    path = data_dir / "references" / "de-en.test.tsv"
    sources = [line.decode("utf-8", "replace").translate({9: " ", 13: None}) for line in WEIRD]
    weird = "".join(f"{source}\tEnglish of <b>{source[:9]}</b>.\n" for source in sources)
    path.write_text(path.read_text(encoding="utf-8") + weird, encoding="utf-8")
    status, errors = evaluate(runs, data_dir)
    assert status == 0 and "Traceback" not in errors, errors
    folder = runs.folder / "run" / "eval" / "4" / "test"
    hypotheses = (folder / "de-en.hyp.txt").read_bytes().decode("utf-8").split("\n")
    references = path.read_bytes().decode("utf-8").split("\n")
    assert len(hypotheses) == len(references) and hypotheses[-1 - len(WEIRD)] == ""
    rows = {row["pair"]: row for row in json.loads((folder / "table.json").read_text())["rows"]}
    assert rows["de-en"]["sentences"] == len(references) - 1


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"ein Satz\tA sentence.\nkein Englisch\n", ":2: found 1 columns, accepted: 2; prepare"),
        (b"\xff\tA sentence.\n", ": not UTF-8 ("),
    ],
)
def test_held_out_sentences_that_someone_broke_are_one_line(
    runs, prepared, tmp_path, content, expected
):
    data_dir = shutil.copytree(prepared.directory, tmp_path / "data")
    path = data_dir / "references" / "de-en.test.tsv"
    path.write_bytes(content)
    status, errors = evaluate(runs, data_dir)
    assert status == 2 and errors.startswith(f"error: {path}{expected}")
    assert errors.count("\n") == 1


def test_a_reader_that_leaves_ends_it_quietly(runs):
    process = start(runs)
    assert process.stdin and process.stdout and process.stderr
    process.stdout.close()
    process.stdin.write(b"eins zwei\n" * 9000)
    process.stdin.close()
    errors = process.stderr.read()
    assert process.wait(60) == 141
    assert b"Traceback" not in errors and b"BrokenPipe" not in errors


def test_a_program_that_waits_for_each_answer_gets_it(asked):
    process, _ = asked
    for line in PLAIN[:3]:
        (answer,) = ask(process, [line])
        assert answer.endswith(b"\n")
    # Which is why memory can't grow with the text: no more than a window of lines is held.
    for _ in range(2):
        assert len(set(ask(process, PLAIN[:1] * WINDOW))) == 1
    number = len(PLAIN) + 3 + 2 * WINDOW + 1
    out, errors = process.communicate(b"no UTF-8: \xff\n")
    assert process.returncode == 2 and out == b""
    assert b"error: standard input:%d: not UTF-8 at byte 11" % number in errors


@pytest.mark.soak
def test_memory_stays_flat_over_a_million_lines(runs, capsys):
    num_lines = 1_000_000
    rng = random.Random(1)
    texts = [translated(text, "de") for text in english_sentences()]
    process = start(runs, [sys.executable, "-m", "gshard_mt.cli.translate"])
    assert process.stdin and process.stdout and process.stderr
    stdin, stderr = process.stdin, process.stderr
    shown: list[bytes] = []

    def write() -> None:
        for _ in range(num_lines):
            stdin.write(f"{rng.choice(texts)}\n".encode())
        stdin.close()

    def read_errors() -> None:
        shown.extend(stderr)

    threads = [threading.Thread(target=write), threading.Thread(target=read_errors)]
    for thread in threads:
        thread.start()
    memory, count, since = [], 0, time.monotonic()
    for line in process.stdout:
        assert line.endswith(b"\n")
        count += 1
        if count % (num_lines // 20) == 0:
            memory.append(psutil.Process(process.pid).memory_info().rss)
    assert process.wait(60) == 0 and count == num_lines
    for thread in threads:
        thread.join()
    assert b" 1,000,000 lines, in " in b"".join(shown)
    with capsys.disabled():
        seconds = time.monotonic() - since
        mib = [round(size / 2**20) for size in memory]
        print(f"\ntranslated: {count:,} lines in {seconds:.0f} s; MiB on the way: {mib}")
    assert max(memory) <= 1.1 * memory[1]  # from a tenth of the way on
