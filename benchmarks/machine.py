"""The hardware and the commit, which are part of every benchmark row."""
# SPDX-License-Identifier: Apache-2.0

import os
import pathlib
import subprocess

import jax

from gshard_mt.partitioning.hardware import processor_name


def describe_machine() -> dict[str, str]:
    """Returns the fields `hardware` and `commit` of a row."""
    device = jax.devices()[0]
    name = device.device_kind if device.platform != "cpu" else processor_name()
    cores = len(os.sched_getaffinity(0))
    root = pathlib.Path(__file__).parent
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True
    )
    return {"hardware": f"{name}, {cores} cores", "commit": found.stdout.strip() or "unknown"}
