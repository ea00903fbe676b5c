"""Collectives for use inside `map_shards`; identities outside of it."""
# SPDX-License-Identifier: Apache-2.0

import jax
from jax.sharding import get_abstract_mesh

from gshard_mt.partitioning.axes import names, spec


def mesh_sum(x: jax.Array, letter: str) -> jax.Array:
    """Adds up over the devices that share the axis `letter`: an all-reduce."""
    axes = _axes(letter)
    return jax.lax.psum(x, axes) if axes else x


def mesh_gather(x: jax.Array, letter: str) -> jax.Array:
    """Concatenates the parts of the devices that share `letter`, first axis: an all-gather."""
    axes = _axes(letter)
    return jax.lax.all_gather(x, axes, tiled=True) if axes else x


def mesh_sum_scatter(x: jax.Array, letter: str) -> jax.Array:
    """Adds up like `mesh_sum` and leaves each device its part of the first axis: a reduce-scatter.

    The order of the parts is that of `mesh_gather`.
    """
    axes = _axes(letter)
    return jax.lax.psum_scatter(x, axes, tiled=True) if axes else x


def mesh_index(letters: str) -> jax.Array | int:
    """Returns the number, from 0, of this device's part of an array with these axes."""
    axes = _axes(letters)
    return jax.lax.axis_index(axes) if axes else 0


def _axes(letters: str) -> tuple[str, ...]:
    """The manual mesh axes of more than one device over which these letters are split."""
    mesh = get_abstract_mesh()
    entries = spec(letters, mesh.manual_axes)
    return tuple(name for entry in entries for name in names(entry) if mesh.shape[name] > 1)
