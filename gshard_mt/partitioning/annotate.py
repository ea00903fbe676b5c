"""GShard's annotations: replicate, split, shard under the ambient mesh; identities without one."""
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Callable, Sequence

import jax
from jax.sharding import PartitionSpec, get_abstract_mesh

from gshard_mt.partitioning.axes import AxisSpec, spec

# The one ambient thing of the project is the mesh that `jax.set_mesh(mesh)` enters, around the call
# of a jitted function (or for the whole process); the trace inside sees its shape and axis names.


def replicate(x: jax.Array) -> jax.Array:
    """Says that every device holds all of `x` (GShard's `replicate`)."""
    return _constrain(x, (None,) * x.ndim)


def split(x: jax.Array, dim: int, mesh_axis: str | tuple[str, ...]) -> jax.Array:
    """Says that axis `dim` of `x` is cut over `mesh_axis`, the others not (GShard's `split`)."""
    entries: list[AxisSpec] = [None] * x.ndim
    entries[dim] = mesh_axis
    return _constrain(x, tuple(entries))


def shard(x: jax.Array, letters: str) -> jax.Array:
    """Says that `x` is cut as `axes.RULES` has it for its last `len(letters)` axes.

    Axes in front of them (stacked depth) are not cut. A size that doesn't divide is padded by XLA
    inside jit, which is correct but slow: `mesh.check_fits` refuses it before.
    """
    if len(letters) > x.ndim:
        raise ValueError(f"{letters!r} names {len(letters)} axes, the array has {x.ndim}")
    return _constrain(x, (None,) * (x.ndim - len(letters)) + spec(letters, _mesh_axis_names()))


def _constrain(x: jax.Array, entries: tuple[AxisSpec, ...]) -> jax.Array:
    if not _mesh_axis_names():
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*entries))


def _mesh_axis_names() -> tuple[str, ...]:
    return get_abstract_mesh().axis_names


def map_shards(
    function: Callable, letters_in: Sequence[str], letters_out: Sequence[str]
) -> Callable:
    """Runs `function` on every device's own part of its arguments; plain `function` without a mesh.

    Letters say how arguments and results are cut, "" for not at all. Inside, nothing communicates
    but `mesh_sum`.
    """
    names = _mesh_axis_names()
    if not names:
        return function
    return jax.shard_map(
        function,
        in_specs=tuple(PartitionSpec(*spec(letters, names)) for letters in letters_in),
        out_specs=tuple(PartitionSpec(*spec(letters, names)) for letters in letters_out),
        check_vma=False,  # a loop that starts from zeros and adds a device's own part is fine here
    )


def mesh_sum(x: jax.Array) -> jax.Array:
    """Adds up over all devices inside `map_shards`."""
    names = _mesh_axis_names()
    return jax.lax.psum(x, names) if names else x
