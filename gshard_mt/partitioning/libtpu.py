"""A machine on which libtpu is installed, XLA's compiler for TPUs, but that has no TPU."""
# SPDX-License-Identifier: Apache-2.0

import glob
import os

# libtpu is also a driver: without these it would look for a TPU host, and lock out other users.
_NO_TPU_HOST = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v3-8",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_LOG_DIR": "disabled",
}


def is_tpu_host() -> bool:
    """Returns whether this machine may have TPUs, by its device files."""
    return bool(glob.glob("/dev/accel*") + glob.glob("/dev/vfio/[0-9]*"))


def use_as_compiler() -> None:
    """Tells libtpu, before it is loaded, that it is wanted as a compiler only."""
    for name, value in _NO_TPU_HOST.items():
        os.environ.setdefault(name, value)
