"""Sizes that the mesh doesn't divide: padded at the end, masked with an identity."""
# SPDX-License-Identifier: Apache-2.0

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from gshard_mt.partitioning.annotate import num_parts
from gshard_mt.partitioning.spatial.parts import map_split

# Every part has ceil(size / parts) elements (section 3.3 of the paper), so the last parts hold
# padding, whose values are undefined: mask them before reducing along that dimension.
#
#     full = pad_to(x, dim, num_parts(mesh_axis))
#     map_split(lambda here, part: use(mask_padding(part, dim, x.shape[dim], here, 0)), ...)(full)

REDUCTIONS = {"sum": jnp.sum, "prod": jnp.prod, "max": jnp.max, "min": jnp.min}


def pad_to(x: jax.Array, dim: int, parts: int) -> jax.Array:
    """Returns `x` padded with zeros at the end of `dim`, so that `parts` divides its size."""
    padding = [(0, 0)] * x.ndim
    padding[dim] = (0, -x.shape[dim] % parts)
    return jnp.pad(x, padding) if any(padding[dim]) else x


def mask_padding(
    part: jax.Array, dim: int, size: int, part_id: jax.Array | int, identity: float | np.generic
) -> jax.Array:
    """Returns part number `part_id` of a padded array, with `identity` where the padding was.

    `size` is the array's along `dim` before `pad_to`. For use inside `map_split`. The paper's
    Iota + partition id · part size < size, section 3.3.
    """
    row = part_id * part.shape[dim] + lax.broadcasted_iota(jnp.int32, part.shape, dim % part.ndim)
    return jnp.where(row < size, part, jnp.asarray(identity, part.dtype))


def reduce_split(
    x: jax.Array, dim: int, mesh_axis: str | tuple[str, ...], operation: str
) -> jax.Array:
    """Reduces `dim`, of any size and split over `mesh_axis`; `operation` is one of REDUCTIONS.

    Each device reduces its own masked part, and one all-reduce combines the results; for a mean,
    divide the sum by the size. Gradients are those of the operation, except for ties of a maximum
    or minimum across devices, which share the gradient equally among devices first.
    """
    if operation not in REDUCTIONS:
        raise ValueError(f"{operation!r} is not a reduction; accepted: {', '.join(REDUCTIONS)}")
    reduce = REDUCTIONS[operation]
    dim = dim % x.ndim

    def reduce_part(part_id: jax.Array | int, part: jax.Array) -> jax.Array:
        neutral = identity(operation, part.dtype)
        part = mask_padding(part, dim, x.shape[dim], part_id, neutral)
        return reduce(part, axis=dim, keepdims=True)

    full = pad_to(x, dim, num_parts(mesh_axis))
    return reduce(map_split(reduce_part, (dim,), dim, mesh_axis)(full), axis=dim)


def identity(operation: str, dtype: np.typing.DTypeLike) -> np.generic:
    """Returns the identity of `operation`, one of REDUCTIONS: 0, 1 or the extreme value."""
    kind: Any = jnp.dtype(dtype)
    if operation in ("sum", "prod"):
        return kind.type(operation == "prod")
    if jnp.issubdtype(kind, jnp.floating):
        return kind.type(-np.inf if operation == "max" else np.inf)
    limits = jnp.iinfo(kind)
    return kind.type(limits.min if operation == "max" else limits.max)
