"""Annotations shard arrays by the rules, and vanish without a mesh."""
# SPDX-License-Identifier: Apache-2.0

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from gshard_mt.errors import ConfigError
from gshard_mt.partitioning.annotate import (
    map_shards,
    num_parts,
    replicate,
    shard,
    split,
)
from gshard_mt.partitioning.collectives import mesh_sum
from gshard_mt.partitioning.mesh import build_mesh
from gshard_mt.partitioning.placement import check_shape, sharding
from tests.collectives import find_collectives

BOTH = ("data", "expert")
ANNOTATIONS = [
    (lambda x: replicate(x), P()),
    (lambda x: split(x, 1, "expert"), P(None, "expert")),
    (lambda x: split(x, -1, BOTH), P(None, None, None, BOTH)),
    (lambda x: shard(x, "GECM"), P(BOTH)),
    (lambda x: shard(x, "EGCM"), P("expert", "data")),
    (lambda x: shard(x, "GSM"), P(None, BOTH)),  # a stacked axis in front is not split
]


@pytest.mark.parametrize(("annotate", "expected"), ANNOTATIONS)
@pytest.mark.parametrize("wrap", [jax.jit, lambda f: f], ids=["jit", "eager"])
def test_annotations_shard_arrays_on_the_ambient_mesh(annotate, expected, wrap):
    mesh = build_mesh(2, 4)
    x = jnp.arange(8.0**4).reshape(8, 8, 8, 8)
    with jax.set_mesh(mesh):
        y = wrap(lambda x: annotate(x * 1))(x)
    assert y.sharding.is_equivalent_to(NamedSharding(mesh, expected), 4)
    assert jnp.array_equal(x, y)


@pytest.mark.parametrize(("annotate", "expected"), ANNOTATIONS)
def test_annotations_are_the_identity_without_a_mesh(annotate, expected):
    x = jnp.zeros((8, 8, 8, 8))
    assert annotate(x) is x


MOVES = [  # how the array is cut before and after, and what the devices send for it
    (lambda x: split(x, 0, BOTH), lambda x: split(x, 1, BOTH), ["all-to-all"]),
    (lambda x: split(x, 0, "expert"), lambda x: split(x, 2, "expert"), ["all-to-all"]),
    (lambda x: shard(x, "GECM"), lambda x: shard(x, "EGCM"), None),  # other axes: some collective
    (lambda x: split(x, 0, BOTH), replicate, ["all-gather"]),
    (replicate, lambda x: split(x, 0, BOTH), []),
    (lambda x: split(x, 0, BOTH), lambda x: split(x, 0, BOTH), []),
]


@pytest.mark.parametrize(("before", "after", "expected"), MOVES)
def test_a_second_annotation_moves_an_array_by_the_collective_of_the_paper(before, after, expected):
    x = jnp.arange(8.0**4).reshape(8, 8, 8, 8)
    with jax.set_mesh(build_mesh(2, 4)):
        x = before(x)
        program = jax.jit(lambda x: after(before(x))).lower(x).compile()
        jitted, eager = program(x), after(x)
        kinds = [kind for kind, _ in find_collectives(program.as_text())]
    assert jitted.sharding.is_equivalent_to(eager.sharding, 4)
    assert jnp.array_equal(jitted, x) and jnp.array_equal(eager, x)
    assert expected is None or kinds == expected


def gather_slots(x_GSM, index_GEC):
    return jax.vmap(lambda x_SM, index_EC: x_SM[index_EC])(x_GSM, index_GEC)


def test_a_manual_part_gathers_its_own_groups_in_an_otherwise_automatic_program():
    x_GSM = jax.random.normal(jax.random.key(0), (8, 6, 4))
    index_GEC = jax.random.randint(jax.random.key(1), (8, 4, 3), 0, 6)
    w_EMH = jax.random.normal(jax.random.key(2), (4, 4, 5))
    seen = []

    def dispatch(x_GSM, index_GEC):
        seen.append((x_GSM.shape, index_GEC.shape, num_parts("data")))
        return split(gather_slots(x_GSM, index_GEC), 1, "expert")  # still automatic in here

    def layer(x_GSM, index_GEC, w_EMH):
        dispatch_parts = map_shards(dispatch, ("GSM", "GEC"), "GECM", ("data",))
        x_GECM = dispatch_parts(split(x_GSM, 0, "data"), index_GEC)
        return jnp.einsum("GECM,EMH->GECH", x_GECM, shard(w_EMH, "EMH"))

    expected = layer(x_GSM, index_GEC, w_EMH)
    with jax.set_mesh(build_mesh(2, 4)):
        program = jax.jit(layer, out_shardings=P("data", "expert")).lower(x_GSM, index_GEC, w_EMH)
        actual = program.compile()(x_GSM, index_GEC, w_EMH)
        collectives = find_collectives(program.compile().as_text())
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
    assert seen == [((8, 6, 4), (8, 4, 3), 1), ((4, 6, 4), (4, 4, 3), 2)]
    assert collectives == []


def test_a_sum_in_a_manual_part_is_over_its_own_mesh_axes():
    x = jnp.arange(64.0).reshape(8, 8)
    for mesh_axes in (("data",), ("expert",), BOTH, None):
        with jax.set_mesh(build_mesh(2, 4)):
            total = jax.jit(map_shards(lambda x: mesh_sum(jnp.sum(x), "G"), ("GS",), "", mesh_axes))
            assert total(x) == jnp.sum(x)


def test_an_unknown_mesh_axis_is_a_mistake():
    with jax.set_mesh(build_mesh(2, 4)):
        with pytest.raises(ValueError, match=r"'rows' is not an axis of the mesh \('data', 'exp"):
            num_parts("rows")


def test_more_letters_than_axes_are_a_mistake():
    with pytest.raises(ValueError, match="'GSM' names 3 axes, the array has 2"):
        shard(jnp.zeros((2, 2)), "GSM")


def test_parameters_are_sharded_by_their_letters_after_stacked_axes():
    mesh = build_mesh(2, 4)
    wi_EMH = jax.device_put(jnp.zeros((3, 8, 4, 4)), sharding(mesh, "EMH", 4))  # three layers
    assert wi_EMH.addressable_shards[0].data.shape == (3, 2, 4, 4)
    assert sharding(mesh, "", 2).is_fully_replicated


def test_a_parameter_that_the_mesh_does_not_divide_is_refused_with_its_letters():
    with pytest.raises(
        ConfigError,
        match=r"^config.mesh.expert: found mesh.expert=4, accepted: .* E=6 .* EMH of shape",
    ):
        check_shape({"data": 2, "expert": 4}, "EMH", (3, 6, 4, 4))
