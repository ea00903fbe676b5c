"""Topologies by name, such as `v3:32x32` or `h100:8`: devices of hardware that may be absent."""
# SPDX-License-Identifier: Apache-2.0

import importlib.util
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from gshard_mt.documents import in_one_line
from gshard_mt.errors import ConfigError
from gshard_mt.partitioning import libtpu
from gshard_mt.partitioning.hardware import CHIPS, Chip, find_chip

# The generation in a topology's name -> the device kind that JAX reports.
GENERATIONS = {
    "v2": "TPU v2",
    "v3": "TPU v3",
    "v4": "TPU v4",
    "v5e": "TPU v5 lite",
    "v5p": "TPU v5",
    "v6e": "TPU v6 lite",
    "tpu7x": "TPU7x",
}
GPUS = {name: f"NVIDIA {name.upper()}" for name in ("a100", "h100", "h200", "b200")}
MAX_GPUS = 8  # that NVLink joins, in one host
# What libtpu is to be told to have JAX's devices: both cores of a TPU v4 chip are one.
_LIBTPU_OPTIONS = {"v4": {"chip_config_name": "megacore"}}
MAX_CPU_DEVICES = 1024

_NAME = re.compile(rf"(cpu|{'|'.join(GPUS)}):(\d+)|((?:v|tpu)\d\w?):(\d+(?:x\d+){{1,2}})")


class Topology(NamedTuple):
    """Devices in a grid of chips, or in several such slices that a slow network joins.

    A slice of GPUs is a host.
    """

    name: str
    platform: str  # tpu | gpu | cpu
    grid: tuple[int, ...]  # of a slice's chips
    num_devices: int  # of all slices
    chip: Chip | None  # None for a CPU
    num_slices: int = 1

    def devices(self) -> Sequence[Any]:
        """Returns the devices for XLA to compile for. Raises ConfigError if XLA knows none."""
        import jax

        if self.platform == "cpu":
            return jax.devices()
        libtpu.use_as_compiler()
        from jax.experimental import topologies

        try:
            options: dict[str, Any] = dict(_LIBTPU_OPTIONS.get(self.name.split(":")[0], {}))
            if self.num_slices > 1:
                options["num_slices"] = self.num_slices
            found = topologies.get_topology_desc(self.name, "tpu", **options)
        except Exception as error:
            raise ConfigError(f"--topology: found {self.name!r}: {in_one_line(error)}") from None
        return found.devices


def parse_topology(name: str, num_slices: int = 1) -> Topology:
    """Returns the topology of slices with this name. Raises ConfigError with the names accepted."""
    match = _NAME.fullmatch(name)
    if not match or (match[3] and match[3] not in GENERATIONS):
        raise ConfigError(
            f"--topology: found {name!r}, accepted: cpu:8, a GPU and their number in a host, e.g. "
            f"h100:8 ({', '.join(GPUS)}), or a TPU generation and its grid of chips, e.g. v3:32x32 "
            f"or v5p:4x4x8 ({', '.join(GENERATIONS)})"
        )
    if kind := match[1]:
        number, most = int(match[2]), MAX_CPU_DEVICES // num_slices
        hosts = ""
        if kind in GPUS:
            most = min(most, MAX_GPUS)
            hosts = " in each of config.mesh.dcn_data hosts"
        if not 1 <= number <= most:
            raise ConfigError(
                f"--topology: found {name!r}, accepted: {kind}:1 to {kind}:{most}{hosts}"
            )
        platform, chip = ("gpu", CHIPS[GPUS[kind]]) if kind in GPUS else ("cpu", None)
        return Topology(name, platform, (number,), number * num_slices, chip, num_slices)
    grid = tuple(int(size) for size in match[4].split("x"))
    chip = CHIPS[GENERATIONS[match[3]]]
    if len(grid) != chip.torus_axes or min(grid) < 1:
        shape = "x".join("248"[: chip.torus_axes])
        raise ConfigError(
            f"--topology: found {name!r}, accepted: {chip.torus_axes} sizes for {match[3]}, "
            f"e.g. {match[3]}:{shape}"
        )
    num_devices = math.prod(grid) * chip.devices * num_slices
    return Topology(name, "tpu", grid, num_devices, chip, num_slices)


def has_compiler(topology: Topology) -> bool:
    """Returns whether the step can be compiled: for CPUs always, and for GPUs in their place."""
    return topology.platform != "tpu" or importlib.util.find_spec("libtpu") is not None


def chip_of(topology: Topology, devices: Sequence[Any]) -> Chip | None:
    """Returns the topology's chip with the number of devices per chip that the compiler sees."""
    chip = find_chip(devices[0].device_kind)
    if chip is None:
        return None
    num_chips = math.prod(topology.grid) * topology.num_slices
    return chip._replace(devices=max(1, len(devices) // num_chips))
