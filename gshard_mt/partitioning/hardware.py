"""Published peaks of chips, for rooflines and utilization, and the name of the processor."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
import platform
from typing import NamedTuple


class Chip(NamedTuple):
    """Published peaks of a chip and the number of JAX devices on it."""

    name: str
    flops_per_second: float  # bfloat16 products with float32 sums
    memory_bytes: float  # HBM
    memory_bytes_per_second: float
    link_bytes_per_second: float  # of one link to a neighbour, one way
    torus_axes: int  # with two links each; 0 is a switch with one link
    devices: int = 1
    dcn_bytes_per_second: float | None = None  # between slices, one way; None if not published


_GIB = float(1 << 30)

# By prefix of `device_kind`. From the vendors' data sheets; the links of TPU v3 from Jouppi
# et al. 2020, "A domain-specific supercomputer for training deep neural networks". Of the data
# center network v5e and v6e have a 256th of what a pod has (6.4 and 25.6 Tbit/s). A GPU's link is
# one direction of its NVLink to the switch of a host (600, 900, 900 and 1,800 GB/s for both), its
# data center network one network adapter of a DGX host, which has eight: 200 Gbit/s in a DGX A100,
# 400 Gbit/s in a DGX H100, H200 and B200.
CHIPS = {
    "TPU v2": Chip("TPU v2", 46e12, 16 * _GIB, 700e9, 62e9, 2, devices=2),
    "TPU v3": Chip("TPU v3", 123e12, 32 * _GIB, 900e9, 82e9, 2, devices=2),
    "TPU v4": Chip("TPU v4", 275e12, 32 * _GIB, 1228e9, 50e9, 3),
    "TPU v5 lite": Chip("TPU v5e", 197e12, 16 * _GIB, 819e9, 50e9, 2, 1, 3.125e9),
    "TPU v5": Chip("TPU v5p", 459e12, 95 * _GIB, 2765e9, 100e9, 3, 1, 6.25e9),
    "TPU v6 lite": Chip("TPU v6e", 918e12, 32 * _GIB, 1640e9, 112e9, 2, 1, 12.5e9),
    "TPU7x": Chip("TPU7x", 2307e12, 192 * _GIB, 7380e9, 100e9, 3, 2, 12.5e9),
    "NVIDIA A100": Chip("NVIDIA A100", 312e12, 80 * _GIB, 2039e9, 300e9, 0, 1, 25e9),
    "NVIDIA H100": Chip("NVIDIA H100", 989e12, 80 * _GIB, 3350e9, 450e9, 0, 1, 50e9),
    "NVIDIA H200": Chip("NVIDIA H200", 989e12, 141 * _GIB, 4800e9, 450e9, 0, 1, 50e9),
    "NVIDIA B200": Chip("NVIDIA B200", 2250e12, 180 * _GIB, 8000e9, 900e9, 0, 1, 50e9),
}


def processor_name() -> str:
    """Returns the name of this machine's processor."""
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def find_chip(device_kind: str) -> Chip | None:
    """Returns the chip of a `jax.Device.device_kind`; None if its peaks are not known."""
    known = [kind for kind in CHIPS if device_kind.startswith(kind)]
    return CHIPS[max(known, key=len)] if known else None
