"""The hardware and the commit, which are part of every benchmark row."""
# SPDX-License-Identifier: Apache-2.0

import os
import pathlib
import platform
import subprocess

import jax


def describe_machine() -> dict[str, str]:
    """Returns the fields `hardware` and `commit` of a row."""
    device = jax.devices()[0]
    name = device.device_kind if device.platform != "cpu" else _processor()
    cores = len(os.sched_getaffinity(0))
    root = pathlib.Path(__file__).parent
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True
    )
    return {"hardware": f"{name}, {cores} cores", "commit": found.stdout.strip() or "unknown"}


def _processor() -> str:
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
