"""The mesh of devices: solving its axes, checking them against the config, building it."""
# SPDX-License-Identifier: Apache-2.0

import math
import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from gshard_mt.documents import in_one_line
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
    data: int, expert: int, model: int, num_devices: int, stage: int = 1, dcn_data: int = 1
) -> dict[str, int]:
    """Returns the size of each mesh axis; -1 takes the remaining devices.

    The axes `stage` and `dcn_data` exist only if they have more than one part. Touches no device.
    ConfigError unless every device is used.
    """
    sizes = (stage, dcn_data, data, expert, model)
    asked: dict[str, int] = dict(zip(MESH_AXES, sizes, strict=True))
    for name in ("stage", "dcn_data"):
        if asked[name] == 1:
            del asked[name]
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
    dcn_data: int = 1,
    devices: Sequence[Any] | None = None,
) -> Mesh:
    """Returns the (data, expert, model) mesh over `devices`, by default those of all processes.

    With stages it has the axis `stage` too, and with slices `dcn_data`, along which each slice is a
    mesh of its own: JAX's hybrid mesh. Raises ConfigError unless there are `dcn_data` slices.
    """
    devices = _find_devices() if devices is None else devices
    shape = solve_shape(data, expert, model, len(devices), stage, dcn_data)
    of_slice = {name: size for name, size in shape.items() if name != "dcn_data"}
    grids = [
        jax.make_mesh(
            tuple(of_slice.values()),
            tuple(of_slice),
            axis_types=(AxisType.Auto,) * len(of_slice),  # the default is Explicit since jax 0.9
            devices=each,
        )
        for each in _split_slices(devices, dcn_data)
    ]
    if dcn_data == 1:
        return grids[0]
    grid = np.stack([each.devices for each in grids], tuple(shape).index("dcn_data"))
    return Mesh(grid, tuple(shape), axis_types=(AxisType.Auto,) * len(shape))


def _find_devices() -> Sequence[Any]:
    """Returns JAX's devices. Raises ConfigError if there are none of those that it is to use."""
    try:
        return jax.devices()
    except (RuntimeError, AssertionError) as error:
        asked = os.environ.get("JAX_PLATFORMS")
        if not asked:
            raise
        reason = f" ({in_one_line(error)})" if str(error) else ""
        raise ConfigError(
            f"JAX_PLATFORMS: found {asked}, of which JAX finds no device here{reason}; accepted: "
            "cpu, or unset it to take what there is"
        ) from error


def _split_slices(devices: Sequence[Any], num_slices: int) -> list[list[Any]]:
    """Returns the devices of each slice; of CPU devices, which know none, equal parts in order."""
    if not hasattr(devices[0], "slice_index"):
        return np.reshape(np.array(devices, object), (num_slices, -1)).tolist()
    slices: dict[int, list[Any]] = {}
    for device in devices:
        slices.setdefault(device.slice_index, []).append(device)
    sizes = {len(each) for each in slices.values()}
    if len(slices) != num_slices or len(sizes) > 1:
        of = f" of unequal sizes {sorted(sizes)}" if len(sizes) > 1 else ""
        raise ConfigError(
            f"config.mesh.dcn_data: found {num_slices}, accepted: {len(slices)}, the number of "
            f"slices that these devices form{of}"
        )
    return [slices[index] for index in sorted(slices)]


def peak_flops(mesh: Mesh) -> float:
    """Returns the peak FLOP/s of all devices together; 0 if not known."""
    chip = find_chip(mesh.devices.flat[0].device_kind)
    return chip.flops_per_second / chip.devices * mesh.size if chip else 0.0
