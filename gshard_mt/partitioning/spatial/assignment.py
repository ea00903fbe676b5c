"""GShard's `shard` with a device assignment: the device of each part, listed one by one."""
# SPDX-License-Identifier: Apache-2.0

import jax
import numpy as np
from jax.core import Tracer
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from numpy.typing import ArrayLike


def assign(x: jax.Array, device_assignment: ArrayLike) -> jax.Array:
    """Returns `x` sharded by `device_assignment` (appendix A.3 of the paper).

    Outside jit the array is moved; inside it is annotated. A jitted program has one order of
    devices: JAX refuses arrays, annotations or meshes of two orders in one program.

    Raises ValueError for a bad assignment (see `assigned_sharding`), for one whose rank is not the
    array's, and for a size that its number of parts doesn't divide (use `uneven.pad_to` first).
    """
    sharding = assigned_sharding(device_assignment)
    num_parts = np.shape(device_assignment)
    if len(num_parts) != x.ndim:
        raise ValueError(
            f"a device assignment of shape {num_parts} has rank {len(num_parts)}, the array of "
            f"shape {x.shape} has {x.ndim}"
        )
    if any(size % parts for size, parts in zip(x.shape, num_parts, strict=True)):
        raise ValueError(f"{num_parts} parts don't divide the shape {x.shape}; pad it before")
    if isinstance(x, Tracer):
        return jax.lax.with_sharding_constraint(x, sharding)
    return jax.device_put(x, sharding)


def assigned_sharding(device_assignment: ArrayLike) -> NamedSharding:
    """Returns the sharding of an array of the rank of `device_assignment`.

    Its shape is the number of parts along each axis of the array, its entries are indices into
    `jax.devices()`: for an array [3, 16, 64] the shape [1, 2, 4] gives parts of [3, 8, 16]. Raises
    ValueError unless every device of all processes occurs once.
    """
    assignment = np.asarray(device_assignment)
    devices = jax.devices()
    if sorted(assignment.flat) != list(range(len(devices))):
        raise ValueError(
            f"a device assignment has each device from 0 to {len(devices) - 1} once, "
            f"not {assignment.tolist()}"
        )
    axes = tuple(f"part_{dim}" for dim in range(assignment.ndim))
    grid = np.array(devices)[assignment]
    mesh = Mesh(grid, axes, axis_types=(AxisType.Auto,) * assignment.ndim)
    return NamedSharding(mesh, PartitionSpec(*axes))
