"""Lines with the time of day where there is no terminal, bars where there is one, and logs."""
# SPDX-License-Identifier: Apache-2.0

import io
import itertools
import re
import resource
import sys

import pytest

from gshard_mt.console import Bar, kept_in, say

TIME = r"\d\d:\d\d:\d\d "


class Terminal(io.StringIO):
    """What is written to it can be read again."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The seconds that the clock shows."""
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def without_times(text: str) -> list[str]:
    lines = text.splitlines()
    assert all(re.match(TIME, line) for line in lines), text
    return [re.sub(f"^{TIME}", "", line) for line in lines]


def test_without_a_terminal_progress_is_a_few_lines_with_the_time(clock, capsys):
    with Bar("translate", "sentence", 4000) as bar:
        clock[0] += 60  # compilation
        for _ in range(40):
            bar.update(100)
            clock[0] += 1
    said = capsys.readouterr().err
    assert "\r" not in said and said.endswith("\n")
    assert without_times(said) == [
        "translate   1,100 of 4,000 sentences, 00:29 left",
        "translate   2,100 of 4,000 sentences, 00:19 left",
        "translate   3,100 of 4,000 sentences, 00:09 left",
        "translate   4,000 of 4,000 sentences, in 01:40",
    ]


def test_the_last_line_of_a_task_that_an_error_ends_says_so(clock, capsys):
    with pytest.raises(OSError), Bar("score", "line") as bar:
        clock[0] += 2
        bar.update()
        raise OSError
    assert without_times(capsys.readouterr().err) == ["score       1 line, stopped after 00:02"]


def test_lines_of_a_training_come_with_its_reports(clock, capsys):
    with Bar("train", "step", 100, initial=20) as bar:
        for step in range(21, 101):
            bar.update()
            clock[0] += 1
            if step % 4 == 0:
                bar.report(f"loss {step}")
    assert without_times(capsys.readouterr().err) == [
        "train       24 of 100 steps, loss 24, 01:41 left",
        "train       36 of 100 steps, loss 36, 01:08 left",
        "train       48 of 100 steps, loss 48, 00:53 left",
        "train       60 of 100 steps, loss 60, 00:41 left",
        "train       72 of 100 steps, loss 72, 00:28 left",
        "train       84 of 100 steps, loss 84, 00:16 left",
        "train       96 of 100 steps, loss 96, 00:04 left",
        "train       100 of 100 steps, loss 100, in 01:20",
    ]


def test_a_training_without_a_report_for_long_is_not_silent(clock, capsys):
    with Bar("train", "step", 1000) as bar:
        bar.report("loss 9")
        for _ in range(4):
            clock[0] += 50
            bar.update()
    assert without_times(capsys.readouterr().err) == [
        "train       0 of 1,000 steps, loss 9",
        "train       3 of 1,000 steps, 13:50:50 left",
        "train       4 of 1,000 steps, loss 9, in 03:20",
    ]


def test_a_long_task_has_a_line_a_minute(clock, capsys):
    with Bar("translate", "line") as bar:
        for _ in range(3600):
            clock[0] += 1
            bar.update()
    times = [
        int(line.split()[1].replace(",", "")) for line in without_times(capsys.readouterr().err)
    ]
    assert times[:3] == [11, 21, 31] and times[-1] == 3600
    assert max(b - a for a, b in itertools.pairwise(times)) == 60 and len(times) < 85


def test_tasks_of_no_length_and_silent_ones_say_nothing(clock, capsys):
    with Bar("leaks", "pair", 3) as bar:
        bar.update(3)
    with Bar("leaks", "pair", 3) as bar:
        clock[0] += 100
    with Bar("translate", "line", disable=True) as bar:
        clock[0] += 100
        bar.update()
    assert capsys.readouterr().err == ""


def test_a_total_may_be_found_out_on_the_way(clock, capsys):
    with Bar("cleaning", "pair") as bar:
        bar.update(10)
        bar.note("tatoeba")
        clock[0] += 10
        bar.expect(50)
        bar.update(10)
    assert without_times(capsys.readouterr().err) == [
        "cleaning    20 of 50 pairs, tatoeba, 00:30 left"
    ]


def test_in_a_terminal_is_a_bar_and_the_log_has_lines(clock, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setattr(sys, "stdout", terminal)
    with kept_in(tmp_path / "train.log", "started"), Bar("train", "step", 2) as bar:
        bar.update()
        bar.report("loss 3")
        say("step 1: dev nll 3.5")
    said = terminal.getvalue()
    assert "\rtrain:  50%|" in said and "1/2 [" in said and not re.search(TIME, said)
    assert "\rstep 1: dev nll 3.5\n" in said
    assert without_times((tmp_path / "train.log").read_text()) == [
        "started",
        "train       1 of 2 steps, loss 3",
        "step 1: dev nll 3.5",
    ]


def test_a_log_is_appended_to_and_has_the_error_that_ends_it(capsys, tmp_path):
    path = tmp_path / "train.log"
    for number in (1, 2):
        with pytest.raises(ZeroDivisionError), kept_in(path, f"start {number}"):
            say("one\ntwo")
            print(1 / 0)
    lines = ["one", "two", "ZeroDivisionError: division by zero"]
    assert without_times(path.read_text()) == ["start 1", *lines, "start 2", *lines]
    assert without_times(capsys.readouterr().out) == lines[:2] * 2
    say("not of a run")
    assert "not of a run" not in path.read_text()


def test_a_log_that_cannot_be_written_stops_nothing(capsys, tmp_path):
    with kept_in(tmp_path / "missing" / "train.log", "start"):
        say("one")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with kept_in(tmp_path / "train.log", "start"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (40, hard))
        try:
            for _ in range(10):
                say("two")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert without_times(capsys.readouterr().out) == ["one", *["two"] * 10]
    assert (tmp_path / "train.log").stat().st_size == 40
