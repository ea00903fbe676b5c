"""On CPUs, makes the C library keep the large buffers that every step needs again."""
# SPDX-License-Identifier: Apache-2.0

import glob
import os
import platform
import sys

from absl import flags

from gshard_mt.config.records import Config

_KEEP_BUFFERS = flags.DEFINE_bool(
    "keep_buffers",
    True,
    "On CPUs, keep memory allocated between steps, which makes them faster (the process restarts "
    "itself once with other malloc settings).",
)

# Huge pages; no buffer in a mapping of its own; nothing returned between steps; grow by 1 GiB.
TUNABLES = (
    "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=8589934592"
    ":glibc.malloc.trim_threshold=17179869184:glibc.malloc.top_pad=1073741824"
)
# In a thread's own arena, buffers over 64 MB get a mapping of their own after all. A single arena
# for all threads keeps them too, but there small allocations wait for each other.
ONE_ARENA = ":glibc.malloc.arena_max=1"
_ARENA_BYTES = 1 << 26


def largest_weight(config: Config) -> int:
    """Returns the bytes of the largest parameter on a device: one matrix of a layer's experts."""
    model = config.model
    size = 4 * max(1, model.moe.num_experts) * model.model_dim * model.ffn_dim
    return size // max(1, config.mesh.num_cpu_devices)


def keep_buffers(largest: int = 0) -> bool:
    """Restarts this process with `GLIBC_TUNABLES`, which glibc reads only at process start.

    Returns, in the process that does the work, whether buffers are kept.

    XLA frees its buffers after each step. By default they are returned to the system, and getting
    them back costs a tenth of a training step or more. `largest` is the size in bytes of the
    largest buffer. Does nothing if there is an accelerator, no glibc, or the variable is already
    set, nor with `--nokeep_buffers`.
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
