"""The mesh of devices: solving its axes, checking them against the config, building it."""
# SPDX-License-Identifier: Apache-2.0

import math
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh

from gshard_mt.errors import ConfigError
from gshard_mt.partitioning.axes import MESH_AXES
from gshard_mt.partitioning.hardware import find_chip


def simulate_cpu_devices(num_cpu_devices: int) -> None:
    """Selects the CPU and makes it look like `num_cpu_devices` devices; 0 changes nothing.

    The number is per process. Call it before JAX touches a device; later it is a ConfigError,
    unless JAX already has that many.
    """
    if num_cpu_devices == 0:
        return
    try:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", num_cpu_devices)
    except RuntimeError as error:
        found = jax.local_devices()
        if found[0].platform != "cpu" or len(found) != num_cpu_devices:
            raise ConfigError(
                f"config.mesh.num_cpu_devices: found {num_cpu_devices}, accepted: {len(found)} "
                f"(JAX already uses {len(found)} {found[0].platform} devices; start a new process)"
            ) from error


def solve_shape(
    data: int, expert: int, model: int, num_devices: int, stage: int = 1
) -> dict[str, int]:
    """Returns the size of each mesh axis; -1 takes the remaining devices.

    The axis `stage` exists only if it has more than one part. Touches no device. ConfigError unless
    every device is used.
    """
    asked: dict[str, int] = dict(zip(MESH_AXES, (stage, data, expert, model), strict=True))
    if stage == 1:
        del asked["stage"]
    known = max(1, math.prod(size for size in asked.values() if size != -1))
    shape = {key: num_devices // known if size == -1 else size for key, size in asked.items()}
    if math.prod(shape.values()) != num_devices:
        found = " x ".join(f"mesh.{key}={size}" for key, size in asked.items())
        raise ConfigError(
            f"config.mesh: found {found}, accepted: sizes whose product is the number of devices, "
            f"{num_devices} (one of them can be -1, the remaining devices)"
        )
    return shape


def build_mesh(
    data: int,
    expert: int,
    model: int = 1,
    stage: int = 1,
    devices: Sequence[Any] | None = None,
) -> Mesh:
    """Returns the (data, expert, model) mesh over `devices`, by default those of all processes.

    With stages it is a (stage, data, expert, model) mesh.
    """
    devices = jax.devices() if devices is None else devices
    shape = solve_shape(data, expert, model, len(devices), stage)
    return jax.make_mesh(
        tuple(shape.values()),
        tuple(shape),
        axis_types=(AxisType.Auto,) * len(shape),  # the default is Explicit since jax 0.9
        devices=devices,
    )


def peak_flops(mesh: Mesh) -> float:
    """Returns the peak FLOP/s of all devices together; 0 if not known."""
    chip = find_chip(mesh.devices.flat[0].device_kind)
    return chip.flops_per_second / chip.devices * mesh.size if chip else 0.0
