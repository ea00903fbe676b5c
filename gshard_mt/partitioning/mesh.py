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
    if num_cpu_devices < 0:
        raise ConfigError(f"mesh.num_cpu_devices = {num_cpu_devices}: must be 0 or more")
    if num_cpu_devices == 0:
        return
    try:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", num_cpu_devices)
    except RuntimeError as error:
        found = jax.local_devices()
        if found[0].platform != "cpu" or len(found) != num_cpu_devices:
            raise ConfigError(
                f"mesh.num_cpu_devices = {num_cpu_devices}: JAX already runs with {len(found)} "
                f"{found[0].platform} devices; start a new process"
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
    wanted = ", ".join(f"mesh.{key} = {size}" for key, size in asked.items())
    for key, size in asked.items():
        if size < 1 and size != -1:
            raise ConfigError(f"mesh.{key} = {size}: must be 1 or more, or -1 for what remains")
    free = [f"mesh.{key} = -1" for key, size in asked.items() if size == -1]
    if len(free) > 1:
        raise ConfigError(f"{', '.join(free)}: only one can take the remaining devices")
    known = math.prod(size for size in asked.values() if size != -1)
    for key, size in asked.items():
        if size == -1:
            if num_devices % known:
                others = ", ".join(f"mesh.{name} = {n}" for name, n in asked.items() if n > 1)
                raise ConfigError(
                    f"{others}: does not divide the {num_devices} available devices, so "
                    f"mesh.{key} = -1 can't take the remaining ones"
                )
            asked[key] = num_devices // known
    if math.prod(asked.values()) != num_devices:
        raise ConfigError(
            f"{wanted}: {known} devices requested, but {num_devices} available; the product must "
            "be the number of available devices (-1 takes the remaining ones)"
        )
    return asked


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
