"""GShard's `shard` with a device assignment: which device holds which part, said one by one."""
# SPDX-License-Identifier: Apache-2.0

import jax
import numpy as np
from jax.core import Tracer
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from numpy.typing import ArrayLike


def assign(x: jax.Array, device_assignment: ArrayLike) -> jax.Array:
    """Returns `x` cut and placed as `device_assignment` says (appendix A.3 of the paper).

    Outside jit the array is moved; inside it is an annotation. A jitted program has one order of
    devices: JAX refuses arrays, annotations or a mesh of two orders in one program.

    Errors, all ValueError: those of `assigned_sharding`, a rank that is not the array's, a size
    that its number of parts doesn't divide (`uneven.pad_to` before).
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

    Its shape is the number of parts along each axis of the array, its entries are positions in
    `jax.devices()`: for an array [3, 16, 64] the shape [1, 2, 4] makes parts [3, 8, 16]. Every
    device of all processes stands there once, else ValueError.
    """
    assignment = np.asarray(device_assignment)
    devices = jax.devices()
    if sorted(assignment.flat) != list(range(len(devices))):
        raise ValueError(
            f"a device assignment has each of 0 to {len(devices) - 1} once (the devices there), "
            f"not {assignment.tolist()}"
        )
    axes = tuple(f"part_{dim}" for dim in range(assignment.ndim))
    grid = np.array(devices)[assignment]
    mesh = Mesh(grid, axes, axis_types=(AxisType.Auto,) * assignment.ndim)
    return NamedSharding(mesh, PartitionSpec(*axes))
