"""On a CPU, has the C library keep the large buffers that every step needs again."""
# SPDX-License-Identifier: Apache-2.0

import glob
import os
import platform
import sys

from absl import flags

from gshard_mt.config.records import Config

_KEEP_BUFFERS = flags.DEFINE_bool(
    "keep_buffers", True, "On a CPU, start again with memory settings that make steps faster."
)

# Huge pages; no buffer mapped by itself; nothing given back between steps; grow by 1 GiB.
TUNABLES = (
    "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=8589934592"
    ":glibc.malloc.trim_threshold=17179869184:glibc.malloc.top_pad=1073741824"
)
# In a thread's own arena, what is larger than 64 MB is mapped by itself after all; in one arena for
# all threads it is kept, but small buffers wait for each other there.
ONE_ARENA = ":glibc.malloc.arena_max=1"
_ARENA_BYTES = 1 << 26


def largest_weight(config: Config) -> int:
    """Returns the bytes of the largest parameter on a device: the experts' of a layer."""
    model = config.model
    size = 4 * max(1, model.moe.num_experts) * model.model_dim * model.ffn_dim
    return size // max(1, config.mesh.num_cpu_devices)


def keep_buffers(largest: int = 0) -> bool:
    """Starts the command again under `GLIBC_TUNABLES`, which glibc reads at a process's start only.

    Returns whether buffers are kept, in the process that does the work.

    XLA frees its buffers after each step; by default they go back to the system, and fetching them
    anew costs a tenth of a training step and more. `largest` is the bytes of a large buffer. Does
    nothing with an accelerator, without glibc, where the variable is set already, or with
    `--nokeep_buffers`.
    """
    tunables = TUNABLES + (ONE_ARENA if largest >= _ARENA_BYTES else "")
    accelerators = (
        glob.glob("/dev/nvidia[0-9]*") + glob.glob("/dev/accel*") + glob.glob("/dev/vfio/*")
    )
    wants_cpu = os.environ.get("JAX_PLATFORMS", "") == "cpu" or not accelerators
    is_glibc = sys.platform == "linux" and platform.libc_ver()[0] == "glibc"
    if not (_KEEP_BUFFERS.value and wants_cpu and is_glibc) or "GLIBC_TUNABLES" in os.environ:
        return os.environ.get("GLIBC_TUNABLES") == tunables
    os.execve(sys.executable, sys.orig_argv, {**os.environ, "GLIBC_TUNABLES": tunables})
