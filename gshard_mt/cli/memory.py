"""On a CPU, has the C library keep the large buffers that every step needs again."""
# SPDX-License-Identifier: Apache-2.0

import glob
import os
import platform
import sys

from absl import flags

_KEEP_BUFFERS = flags.DEFINE_bool(
    "keep_buffers", True, "On a CPU, start again with memory settings that make steps faster."
)

# Huge pages; no buffer mapped by itself; nothing given back between steps; grow by 1 GiB; one arena
# for all threads, since in a thread's own what is larger than 64 MB is mapped by itself after all.
TUNABLES = (
    "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=8589934592"
    ":glibc.malloc.trim_threshold=17179869184:glibc.malloc.top_pad=1073741824"
    ":glibc.malloc.arena_max=1"
)


def keep_buffers() -> bool:
    """Starts the command again under `GLIBC_TUNABLES`, which glibc reads at a process's start only.

    Returns whether buffers are kept, in the process that does the work.

    XLA frees its buffers after each step; by default they go back to the system, and fetching them
    anew costs a tenth of a training step and more. Does nothing with an accelerator, without
    glibc, where the variable is set already, or with `--nokeep_buffers`.
    """
    accelerators = (
        glob.glob("/dev/nvidia[0-9]*") + glob.glob("/dev/accel*") + glob.glob("/dev/vfio/*")
    )
    wants_cpu = os.environ.get("JAX_PLATFORMS", "") == "cpu" or not accelerators
    is_glibc = sys.platform == "linux" and platform.libc_ver()[0] == "glibc"
    if not (_KEEP_BUFFERS.value and wants_cpu and is_glibc) or "GLIBC_TUNABLES" in os.environ:
        return os.environ.get("GLIBC_TUNABLES") == TUNABLES
    os.execve(sys.executable, sys.orig_argv, {**os.environ, "GLIBC_TUNABLES": TUNABLES})
