"""gshard-plan ends at once when it is interrupted."""
# SPDX-License-Identifier: Apache-2.0

import signal
import subprocess
import sys

INTERRUPTED = """
import os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
from gshard_mt.cli import plan as command
from gshard_mt.plan import plan
plan.make_plan = lambda *arguments: os.kill(os.getpid(), signal.SIGINT)
command.entry()
"""


def test_ctrl_c_ends_a_plan_whatever_the_compiler_does():
    words = [sys.executable, "-c", INTERRUPTED, "--config=smoke", "--topology=cpu:8"]
    done = subprocess.run(words, capture_output=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")
