"""GShard's annotations: replicate, split, shard under the ambient mesh; identities without one."""
# SPDX-License-Identifier: Apache-2.0

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.sharding import PartitionSpec, get_abstract_mesh

from gshard_mt.partitioning.axes import MESH_AXES, AxisSpec, names, spec

# The one ambient thing of the project is the mesh that `jax.set_mesh(mesh)` enters, around the call
# of a jitted function (or for the whole process); the trace inside sees its shape and axis names.
# An annotation on an array that is annotated otherwise moves it, in and out of jit: from one axis
# to another by an all-to-all, to a full copy by an all-gather (section 3.3 of the paper).


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
    return _constrain(x, (None,) * (x.ndim - len(letters)) + spec(letters, _automatic_axes()))


def _constrain(x: jax.Array, entries: tuple[AxisSpec, ...]) -> jax.Array:
    if not _automatic_axes():
        return x
    if not isinstance(x, Tracer):
        x = jax.device_put(x, PartitionSpec(*entries))  # it may not be on the mesh yet
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*entries))


def platform() -> str:
    """Returns cpu, gpu or tpu: what the ambient mesh is made of, else what JAX runs on.

    A program can be compiled for TPUs where there is none.
    """
    device = getattr(get_abstract_mesh(), "abstract_device", None)
    is_tpu = device is not None and str(device.device_kind).startswith("TPU")
    return "tpu" if is_tpu else jax.default_backend()


def _automatic_axes() -> tuple[str, ...]:
    """All axes of the mesh; inside `map_shards` and `map_split` those that stay automatic."""
    return get_abstract_mesh().auto_axes  # without them an annotation has nothing to say


def map_shards(
    function: Callable,
    letters_in: Sequence[str],
    letters_out: str | tuple[str, ...],
    mesh_axes: Sequence[str] | None = None,
) -> Callable:
    """Runs `function` on every device's own part of its arguments; plain `function` without a mesh.

    Letters say how arguments and results are cut, "" for not at all; `letters_out` is a string for
    one result, a tuple for a tuple. Inside, nothing communicates but what `collectives` has.

    With `mesh_axes` only these are cut by hand and the rest of the mesh stays automatic, where the
    annotations work inside too (the paper's manual part of an automatic program, section 3.2).
    Letters are then read for the manual axes alone, and an array axis over several mesh axes is cut
    by the manual ones first: `("data",)` goes with what `shard` does to G, `("expert",)` doesn't.
    """
    mesh_axis_names = get_abstract_mesh().axis_names
    manual = tuple(n for n in mesh_axis_names if mesh_axes is None or n in mesh_axes)
    if not manual:
        return function
    _check_automatic(manual)

    def cut(letters: str) -> PartitionSpec:
        return PartitionSpec(*spec(letters, manual))

    return jax.shard_map(
        function,
        in_specs=tuple(map(cut, letters_in)),
        out_specs=jax.tree.map(cut, letters_out),
        axis_names=set(manual),
        check_vma=False,  # a loop that starts from zeros and adds a device's own part is fine here
    )


def map_split(
    function: Callable,
    dims_in: Sequence[int | None],
    dim_out: int | None,
    mesh_axis: str | tuple[str, ...],
) -> Callable:
    """Runs `function(part_id, *parts)` on parts cut along one dimension each.

    Argument i is cut along `dims_in[i]` (counted from 0, None for not at all) over `mesh_axis`, the
    result along `dim_out`. For arrays without letters, such as images. Sizes must divide
    (`uneven.pad_to`). The rest of the mesh stays automatic. Without a mesh the whole arrays are
    part 0 of 1.
    """
    parts = num_parts(mesh_axis)
    if not get_abstract_mesh().axis_names:
        return functools.partial(function, 0)
    _check_automatic(names(mesh_axis))

    def cut(dim: int | None) -> PartitionSpec:
        return PartitionSpec() if dim is None else PartitionSpec(*(None,) * dim, mesh_axis)

    # The ids are an argument because `lax.axis_index` beside automatic axes is not always accepted
    # by XLA (jaxlib 0.10.2: "PartitionId instruction is not supported", in programs of many parts).
    mapped = jax.shard_map(
        lambda ids, *arrays: function(ids[0], *arrays),
        in_specs=(cut(0), *(cut(dim) for dim in dims_in)),
        out_specs=cut(dim_out),
        axis_names=set(names(mesh_axis)),
    )
    return lambda *arrays: mapped(jnp.arange(parts), *arrays)


def _check_automatic(axes: tuple[str, ...]) -> None:
    """Refuses to cut what is a part already: jax 0.10 would cut it again, and later ones raise."""
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
