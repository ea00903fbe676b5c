"""Options of XLA's compilers under which devices compute while their data travel."""
# SPDX-License-Identifier: Apache-2.0

import os

from gshard_mt.partitioning.annotate import platform

LATENCY_HIDING = "xla_gpu_enable_latency_hiding_scheduler"


def compiler_options(num_devices: int, num_chunks: int) -> dict[str, bool | str]:
    """Returns the options for a step whose all-to-alls have `num_chunks` parts.

    The compiler for TPUs makes no all-to-all asynchronous unless it is told to. The one for GPUs
    makes all collectives asynchronous, but by default waits for each before the next operation.
    What the user says in XLA_FLAGS is left as it is.
    """
    if platform() == "tpu" and num_chunks > 1:
        return {"xla_tpu_enable_async_all_to_all": "true"}
    is_set = LATENCY_HIDING in os.environ.get("XLA_FLAGS", "")
    if platform() == "gpu" and num_devices > 1 and not is_set:
        return {LATENCY_HIDING: True}
    return {}
