"""Whatever lines come, as many go out, in order, and memory stays flat."""
# SPDX-License-Identifier: Apache-2.0

import json
import pathlib
import random
import shutil
import subprocess
import sys
import threading
import time

import psutil
import pytest

from tests.cli.calling import import_command
from tests.making.made_up import english_sentences, translated
from tests.making.runs import Runs, finish

WINDOW = import_command("translate").WINDOW

TRAIN = (
    *("--config.train.num_steps=4", "--config.decode.beam_size=1"),
    *("--config.decode.batch_size=512", "--config.decode.max_length_factor=0.5"),
    "--config.decode.max_source_length=16",  # one program for all
)
WEIRD = [
    b"",
    b"   \t  ",
    "\u200b\u200d\ufeff".encode(),
    "слово ".encode() * 10_000,
    "中文 العربية ქართული 🙂 ᚠᚢᚦ".encode(),
    b"a\x00b\x0bc\x0cd\x1ce",
    "line\u2028separator\u0085inside".encode(),
    b"<b>&amp;</b> {{ 7 * 7 }} %s $(id)",
    b"ends with a carriage return\r",
    b"x" * 100_000,
]


@pytest.fixture(scope="module")
def runs(config, prepared, tmp_path_factory) -> Runs:
    runs = Runs(tmp_path_factory.mktemp("under_fire"), config, prepared, num_steps=4)
    finish([runs.start("run", 1, *TRAIN)])
    return runs


def start(runs: Runs, **options) -> subprocess.Popen:
    words = [sys.executable, "-m", "gshard_mt.cli.translate", "--workdir", runs.folder / "run"]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [str(word) for word in words], stdin=pipe, stdout=pipe, stderr=pipe, **options
    )


def test_as_many_lines_come_out_as_go_in_and_in_their_order(runs):
    plain = [translated(text, "de").encode() for text in english_sentences()[:20]]
    lines = [line for pair in zip(WEIRD, plain, strict=False) for line in pair]
    out, errors = start(runs).communicate(b"\n".join(lines))  # the last has no line end
    found = out.split(b"\n")
    assert found.pop() == b"" and len(found) == len(lines), errors
    assert found[0] == found[2] == found[4] == b""  # nothing to translate
    assert "lines are longer than decode.max_source_length=16 and were cut" in errors.decode()
    assert b"Traceback" not in errors and b"Warning" not in errors
    alone, _ = start(runs).communicate(b"\n".join(plain) + b"\n")
    assert found[1::2] == alone.split(b"\n")[: len(WEIRD)]
    for line in found:
        line.decode("utf-8")
        assert b"\r" not in line


def evaluate(runs: Runs, data_dir: pathlib.Path) -> tuple[int, str]:
    """Returns the exit status and what is on standard error."""
    words = ["--workdir", runs.folder / "run", "--data_dir", data_dir]
    command = [sys.executable, "-m", "gshard_mt.cli.evaluate", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


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


def test_no_more_than_a_window_of_lines_is_held(runs):
    """Which is why memory can't grow with the text."""
    line = translated(english_sentences()[0], "de").encode()
    process = start(runs)
    assert process.stdin and process.stdout and process.stderr
    for _ in range(2):
        process.stdin.write(b"%s\n" % line * WINDOW)
        process.stdin.flush()
        assert len({process.stdout.readline() for _ in range(WINDOW)}) == 1  # without its end
    assert process.communicate()[0] == b"" and process.returncode == 0


def test_a_program_that_waits_for_each_answer_gets_it(runs):
    process = start(runs)
    assert process.stdin and process.stdout
    for text in english_sentences()[:3]:
        process.stdin.write(translated(text, "de").encode() + b"\n")
        process.stdin.flush()
        assert process.stdout.readline().endswith(b"\n")
    process.stdin.write(b"no UTF-8: \xff\n")
    out, errors = process.communicate()
    assert process.returncode == 2 and out == b""
    assert b"error: standard input:4: not UTF-8 at byte 11" in errors


@pytest.mark.soak
def test_memory_stays_flat_over_a_million_lines(runs, capsys):
    num_lines = 1_000_000
    rng = random.Random(1)
    texts = [translated(text, "de") for text in english_sentences()]
    process = start(runs)
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
    assert b"line/s" in b"".join(shown)
    with capsys.disabled():
        seconds = time.monotonic() - since
        mib = [round(size / 2**20) for size in memory]
        print(f"\ntranslated: {count:,} lines in {seconds:.0f} s; MiB on the way: {mib}")
    assert max(memory) <= 1.1 * memory[1]  # from a tenth of the way on
