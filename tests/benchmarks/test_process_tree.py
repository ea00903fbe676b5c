"""The watch over a command sees its children's memory, and tells marked ones apart."""
# SPDX-License-Identifier: Apache-2.0

import sys

import pytest

from benchmarks.process_tree import run_and_watch

_MIB = 1 << 20
_CHILD = """
import os, pathlib, sys, time
if sys.argv[2:]:
    pathlib.Path(sys.argv[2]).write_text(str(os.getpid()))
block = b"x" * (int(sys.argv[1]) << 20)
time.sleep(1.5)
"""
_PARENT = """
import subprocess, sys
children = [subprocess.Popen([sys.executable, "-c", sys.argv[1], *each.split()])
            for each in sys.argv[2:]]
sys.exit(max(child.wait() for child in children))
"""


def _watch(tmp_path, *children: str):
    command = [sys.executable, "-c", _PARENT, _CHILD, *children]
    return run_and_watch(command, tmp_path / "log", tmp_path / "mark")


def test_memory_of_children_is_summed(tmp_path):
    usage = _watch(tmp_path, "80", "120")
    assert 200 * _MIB < usage.peak <= usage.rss_peak < 300 * _MIB
    assert 120 * _MIB < usage.largest < 160 * _MIB
    assert usage.marked_peak == 0 and not usage.marked


def test_a_marked_process_is_apart(tmp_path):
    usage = _watch(tmp_path, "80", f"150 {tmp_path / 'mark'}")
    assert 80 * _MIB < usage.peak < 140 * _MIB
    assert 150 * _MIB < usage.marked_peak < 200 * _MIB
    assert usage.marked


def test_a_command_that_fails_is_told_with_the_end_of_its_log(tmp_path):
    with pytest.raises(SystemExit, match="(?s)exit status 3.*the reason"):
        run_and_watch(
            [sys.executable, "-c", "import sys; print('the reason'); sys.exit(3)"],
            tmp_path / "log",
            tmp_path / "mark",
        )
