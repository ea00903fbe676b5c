"""GShard's annotations: replicate, split and shard on the ambient mesh; identities without one."""
# SPDX-License-Identifier: Apache-2.0

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.core import Tracer
from jax.sharding import PartitionSpec, get_abstract_mesh

from gshard_mt.partitioning.axes import MESH_AXES, AxisSpec, names, spec

# The only ambient state of the project is the mesh that `jax.set_mesh(mesh)` enters, around the
# call of a jitted function or for the whole process; the trace inside sees its shape and axis
# names. An annotation that differs from the previous one moves the array, in and out of jit: from
# one axis to another by an all-to-all, to a full copy by an all-gather (section 3.3 of the paper).


def replicate(x: jax.Array) -> jax.Array:
    """Replicates `x` on every device (GShard's `replicate`)."""
    return _constrain(x, (None,) * x.ndim)


def split(x: jax.Array, dim: int, mesh_axis: str | tuple[str, ...]) -> jax.Array:
    """Splits axis `dim` of `x` over `mesh_axis` and no other axis (GShard's `split`)."""
    entries: list[AxisSpec] = [None] * x.ndim
    entries[dim] = mesh_axis
    return _constrain(x, tuple(entries))


def shard(x: jax.Array, letters: str) -> jax.Array:
    """Shards the last `len(letters)` axes of `x` by `axes.RULES`.

    Leading axes (stacked depth) are not split. Inside jit XLA pads a size that does not divide,
    which is correct but slow: `config.checks` refuses it earlier.
    """
    if len(letters) > x.ndim:
        raise ValueError(f"{letters!r} names {len(letters)} axes, the array has {x.ndim}")
    return _constrain(x, (None,) * (x.ndim - len(letters)) + spec(letters, _automatic_axes()))


def _constrain(x: jax.Array, entries: tuple[AxisSpec, ...]) -> jax.Array:
    if not _automatic_axes():
        return x
    if not isinstance(x, Tracer):
        x = jax.device_put(x, PartitionSpec(*entries))  # it may not be on the mesh yet
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*entries))


def platform() -> str:
    """Returns cpu, gpu or tpu: the platform of the ambient mesh, otherwise JAX's default backend.

    A program can be compiled for TPUs on a machine without them.
    """
    device = getattr(get_abstract_mesh(), "abstract_device", None)
    is_tpu = device is not None and str(device.device_kind).startswith("TPU")
    return "tpu" if is_tpu else jax.default_backend()


def _automatic_axes() -> tuple[str, ...]:
    """All axes of the mesh; inside `map_shards` those that stay automatic."""
    return get_abstract_mesh().auto_axes  # without them an annotation has no effect


def map_shards(
    function: Callable,
    letters_in: Sequence[Any],
    letters_out: str | tuple[str, ...],
    mesh_axes: Sequence[str] | None = None,
) -> Callable:
    """Runs `function` on every device's own part of its arguments; plain `function` without a mesh.

    Letters determine how arguments and results are split, "" for not at all. An argument of several
    arrays has a tree of letters; `letters_out` is a string for one result, a tuple for a tuple.
    Inside, only `collectives` communicate.

    With `mesh_axes` only these are manual and the rest of the mesh stays automatic, so annotations
    work inside too (the paper's manual part of an automatic program, section 3.2). Letters then
    apply to the manual axes alone, and an array axis over several mesh axes is split by the manual
    ones first: `("data",)` is compatible with what `shard` does to G, `("expert",)` is not.
    """
    mesh_axis_names = get_abstract_mesh().axis_names
    manual = tuple(n for n in mesh_axis_names if mesh_axes is None or n in mesh_axes)
    if not manual:
        return function
    check_automatic(manual)

    def cut(letters: str) -> PartitionSpec:
        return PartitionSpec(*spec(letters, manual))

    return jax.shard_map(
        function,
        in_specs=jax.tree.map(cut, tuple(letters_in)),
        out_specs=jax.tree.map(cut, letters_out),
        axis_names=set(manual),
        check_vma=False,  # allows a loop that starts from zeros and adds a device's own part
    )


def check_automatic(axes: tuple[str, ...]) -> None:
    """Refuses to cut a part again: jax 0.10 would, and later versions raise an error."""
    for name in axes:
        if name in get_abstract_mesh().manual_axes:
            raise ValueError(f"{name!r} is manual here already: parts are cut over it")


def num_parts(mesh_axis: str | tuple[str, ...]) -> int:
    """Returns into how many parts `mesh_axis` of the ambient mesh cuts; 1 without a mesh.

    A mesh may lack one of MESH_AXES, which then cuts nothing; any other name is a ValueError.
    """
    mesh_shape = get_abstract_mesh().shape
    if not mesh_shape:
        return 1
    unknown = [name for name in names(mesh_axis) if name not in (*mesh_shape, *MESH_AXES)]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is not an axis of the mesh {tuple(mesh_shape)}")
    return math.prod(mesh_shape.get(name, 1) for name in names(mesh_axis))
