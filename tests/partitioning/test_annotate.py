"""Annotations place arrays as the rules say, and vanish without a mesh."""
# SPDX-License-Identifier: Apache-2.0

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from gshard_mt.errors import ConfigError
from gshard_mt.partitioning.annotate import replicate, shard, split
from gshard_mt.partitioning.mesh import build_mesh
from gshard_mt.partitioning.params import check_shape, place, sharding

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
def test_annotations_place_arrays_under_the_ambient_mesh(annotate, expected, wrap):
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


def test_more_letters_than_axes_are_a_mistake():
    with pytest.raises(ValueError, match="'GSM' names 3 axes, the array has 2"):
        shard(jnp.zeros((2, 2)), "GSM")


def test_parameters_are_placed_by_their_letters_behind_stacked_axes():
    mesh = build_mesh(2, 4)
    wi_EMH = place(jnp.zeros((3, 8, 4, 4)), "EMH", mesh)  # three layers
    assert wi_EMH.sharding == sharding(mesh, "EMH", 4)
    assert wi_EMH.addressable_shards[0].data.shape == (3, 2, 4, 4)
    assert place(jnp.zeros((4, 8)), "", mesh).sharding.is_fully_replicated


def test_a_parameter_that_the_mesh_does_not_divide_is_refused_with_its_letters():
    with pytest.raises(
        ConfigError, match=r"^mesh.expert = 4: doesn't divide E = 6 .* EMH of shape"
    ):
        check_shape({"data": 2, "expert": 4}, "EMH", (3, 6, 4, 4))
