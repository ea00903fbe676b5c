"""Functions of one part of a split array without letters, such as an image.

This folder is the image half of the paper (sections 3.3 and A.3 to A.4). No command needs it: the
tests do, and programs that import it.
"""
# SPDX-License-Identifier: Apache-2.0

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec, get_abstract_mesh

from gshard_mt.partitioning.annotate import check_automatic, num_parts
from gshard_mt.partitioning.axes import names


def map_split(
    function: Callable,
    dims_in: Sequence[int | None],
    dim_out: int | None,
    mesh_axis: str | tuple[str, ...],
) -> Callable:
    """Runs `function(part_id, *parts)` on parts cut along one dimension each.

    Argument i is split along `dims_in[i]` (counted from 0, None for not at all) over `mesh_axis`,
    the result along `dim_out`. For arrays without letters, such as images. The number of parts must
    divide the sizes (`uneven.pad_to`). The rest of the mesh stays automatic. Without a mesh the
    whole arrays are part 0 of 1.
    """
    parts = num_parts(mesh_axis)
    if not get_abstract_mesh().axis_names:
        return functools.partial(function, 0)
    check_automatic(names(mesh_axis))

    def cut(dim: int | None) -> PartitionSpec:
        return PartitionSpec() if dim is None else PartitionSpec(*(None,) * dim, mesh_axis)

    # The ids are an argument because XLA does not always accept `lax.axis_index` together with
    # automatic axes (jaxlib 0.10.2: "PartitionId instruction is not supported", with many parts).
    mapped = jax.shard_map(
        lambda ids, *arrays: function(ids[0], *arrays),
        in_specs=(cut(0), *(cut(dim) for dim in dims_in)),
        out_specs=cut(dim_out),
        axis_names=set(names(mesh_axis)),
    )
    return lambda *arrays: mapped(jnp.arange(parts), *arrays)
