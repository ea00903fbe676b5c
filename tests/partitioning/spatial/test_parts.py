"""Parts are numbered along their mesh axes, and cut again over others only."""
# SPDX-License-Identifier: Apache-2.0

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gshard_mt.partitioning.annotate import map_shards
from gshard_mt.partitioning.mesh import build_mesh
from gshard_mt.partitioning.spatial.parts import map_split

BOTH = ("data", "expert")


def test_parts_are_numbered_along_their_mesh_axes():
    x = jnp.zeros((3, 8))
    for mesh_axis, each in (("data", 4), ("expert", 2), (BOTH, 1), (("expert", "data"), 1)):
        with jax.set_mesh(build_mesh(2, 4)):
            ids = jax.jit(map_split(lambda part_id, part: part + part_id, (1,), 1, mesh_axis))(x)
        np.testing.assert_array_equal(ids, x + jnp.arange(8) // each)
    assert jnp.array_equal(map_split(lambda part_id, part: part + part_id, (1,), 1, BOTH)(x), x)


def test_a_part_of_a_part_over_the_same_mesh_axis_is_refused():
    def inner(part_id, x):
        return map_split(lambda part_id, part: part, (0,), 0, "expert")(x)

    with jax.set_mesh(build_mesh(2, 4)):
        with pytest.raises(ValueError, match="'expert' is manual here already"):
            jax.jit(map_split(inner, (0,), 0, "expert"))(jnp.zeros(16))
        with pytest.raises(ValueError, match="'expert' is manual here already"):
            jax.jit(map_shards(lambda x: inner(0, x), ("E",), "E"))(jnp.zeros(16))


def test_a_part_is_cut_further_over_another_mesh_axis():
    def outer(part_id, x):
        return 10 * part_id + map_split(lambda i, part: part + i, (0,), 0, "expert")(x)

    with jax.set_mesh(build_mesh(2, 4)):
        ids = jax.jit(map_split(outer, (0,), 0, "data"))(jnp.zeros(8))
    assert ids.tolist() == [0, 1, 2, 3, 10, 11, 12, 13]
