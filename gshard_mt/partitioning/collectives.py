"""Collectives for use inside `map_shards`; identities outside of it."""
# SPDX-License-Identifier: Apache-2.0

import math

import jax
from jax.sharding import get_abstract_mesh

from gshard_mt.partitioning.axes import names, spec


def mesh_sum(x: jax.Array, letter: str) -> jax.Array:
    """Adds up over the devices that share the axis `letter`: an all-reduce."""
    axes = _axes(letter)
    return jax.lax.psum(x, axes) if axes else x


def mesh_max(x: jax.Array, letter: str) -> jax.Array:
    """Returns the maximum over the devices that share the axis `letter`: an all-reduce."""
    axes = _axes(letter)
    return jax.lax.pmax(x, axes) if axes else x


def mesh_exchange(x: jax.Array, letter: str) -> jax.Array:
    """Sends each device that shares `letter` its part of the first axis: an all-to-all.

    Returns what all have sent to this one, in the order of the devices.
    """
    axes = _axes(letter)
    return jax.lax.all_to_all(x, axes, 0, 0, tiled=True) if axes else x


def mesh_size(letter: str) -> int:
    """Returns the number of devices over which the axis `letter` is split."""
    return math.prod(get_abstract_mesh().shape[name] for name in _axes(letter))


def mesh_index(letters: str) -> jax.Array | int:
    """Returns the number, from 0, of this device's part of an array with these axes."""
    axes = _axes(letters)
    return jax.lax.axis_index(axes) if axes else 0


def _axes(letters: str) -> tuple[str, ...]:
    """The manual mesh axes of more than one device over which these letters are split."""
    mesh = get_abstract_mesh()
    entries = spec(letters, mesh.manual_axes)
    return tuple(name for entry in entries for name in names(entry) if mesh.shape[name] > 1)
