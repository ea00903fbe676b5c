"""Padded and masked parts of any size give the result of the whole array."""
# SPDX-License-Identifier: Apache-2.0

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gshard_mt.partitioning.annotate import num_parts, replicate, split
from gshard_mt.partitioning.mesh import build_mesh
from gshard_mt.partitioning.spatial.parts import map_split
from gshard_mt.partitioning.spatial.uneven import (
    REDUCTIONS,
    identity,
    mask_padding,
    pad_to,
    reduce_split,
)
from tests.collectives import find_collectives

BOTH = ("data", "expert")
SIZES = [1, 3, 8, 13, 16, 37]


def make_array(size, dtype=jnp.float32):
    """Small integers, none zero, all negative in float: padding can't be taken for an element."""
    sign = -1 if dtype == jnp.float32 else 1
    return jnp.asarray(sign * np.random.default_rng(size).integers(1, 3, (4, size, 2)), dtype)


@pytest.mark.parametrize(("mesh_axis", "dtype"), [("expert", jnp.float32), (BOTH, jnp.int32)])
def test_reductions_over_a_split_dimension_of_any_size_are_the_unsharded_ones(mesh_axis, dtype):
    arrays = [make_array(size, dtype) for size in (1, 3, 13, 16)]

    @jax.jit
    def reduce_all(arrays):
        cut = [split(x, 1, mesh_axis) for x in arrays]
        return [[reduce_split(x, 1, mesh_axis, o) for o in REDUCTIONS] for x in cut]

    with jax.set_mesh(build_mesh(2, 4)):
        results = reduce_all(arrays)
    for x, of_array in zip(arrays, results, strict=True):
        for operation, result in zip(REDUCTIONS, of_array, strict=True):
            np.testing.assert_array_equal(result, getattr(np, operation)(x, axis=1))


def test_reductions_without_a_mesh_are_the_plain_ones():
    for operation, reduce in REDUCTIONS.items():
        x = make_array(13)
        np.testing.assert_array_equal(reduce_split(x, -2, BOTH, operation), reduce(x, axis=1))


def test_a_reduction_has_the_gradient_of_the_plain_one():
    x = np.random.default_rng(0).normal(size=(4, 13, 2)).astype(np.float32)

    def gradients(reductions):
        """The gradients of all reductions, one program."""
        losses = [lambda x, f=reduce: jnp.sum(jnp.sin(f(x))) for reduce in reductions]
        return jax.jit(lambda x: [jax.grad(loss)(x) for loss in losses])(x)

    with jax.set_mesh(build_mesh(2, 4)):
        actual = gradients([lambda x, o=o: reduce_split(x, 1, BOTH, o) for o in REDUCTIONS])
    expected = gradients([lambda x, f=f: f(x, axis=1) for f in REDUCTIONS.values()])
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_a_reduction_is_one_all_reduce_of_the_result():
    with jax.set_mesh(build_mesh(2, 4)):
        program = jax.jit(lambda x: reduce_split(split(x, 1, BOTH), 1, BOTH, "max"))
        text = program.lower(jnp.zeros((4, 13, 2))).compile().as_text()
    assert find_collectives(text) == [("all-reduce", 8)]


@pytest.mark.parametrize("size", [3, 13, 16])
def test_a_product_over_a_split_uneven_dimension_needs_only_one_side_masked(size):
    a, b = make_array(size)[..., 0], make_array(size + 1)[0, :size]

    def multiply(part_id, a, b):
        a = mask_padding(a, 1, size, part_id, 0)
        return jax.lax.psum(a @ b, "expert")

    with jax.set_mesh(build_mesh(2, 4)):
        parts = num_parts("expert")
        a_full = pad_to(a, 1, parts).at[:, size:].set(5.0)  # padding may hold anything
        b_full = pad_to(b, 0, parts).at[size:].set(5.0)
        product = jax.jit(map_split(multiply, (1, 0), None, "expert"))(a_full, b_full)
    np.testing.assert_array_equal(product, a @ b)


def test_values_computed_from_padding_are_masked_and_removed():
    x = make_array(13)

    def exponentiate(part_id, part):  # exp(0) is 1: padding is not zero any more
        return mask_padding(jnp.exp(part), 1, 13, part_id, 7.0)

    with jax.set_mesh(build_mesh(2, 4)):
        full = jax.jit(map_split(exponentiate, (1,), 1, "expert"))(pad_to(x, 1, 4))
    np.testing.assert_array_equal(full[:, 13:], jnp.full((4, 3, 2), 7.0))
    np.testing.assert_array_equal(replicate(full)[:, :13], jax.jit(jnp.exp)(x))


@pytest.mark.parametrize("parts", [1, 3, 4, 8])
@pytest.mark.parametrize("size", SIZES)
def test_padding_rounds_up_and_comes_at_the_end(size, parts):
    x = make_array(size)
    padded = pad_to(x, -2, parts)
    assert padded.shape == (4, -(-size // parts) * parts, 2)
    np.testing.assert_array_equal(padded[:, :size], x)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.int32, jnp.uint8])
def test_an_identity_leaves_every_value_as_it_is(dtype):
    x = jnp.asarray([1, 2, 3], dtype)
    for operation, reduce in REDUCTIONS.items():
        value = jnp.asarray(identity(operation, dtype))
        assert value.dtype == dtype
        np.testing.assert_array_equal(reduce(jnp.stack([x, jnp.full(3, value)]), axis=0), x)


def test_unknown_names_are_mistakes():
    with pytest.raises(ValueError, match="'mean' is not a reduction; accepted: sum, prod, max"):
        reduce_split(jnp.zeros(8), 0, "expert", "mean")
    with jax.set_mesh(build_mesh(2, 4)):
        with pytest.raises(ValueError, match=r"'rows' is not an axis of the mesh \('data', 'exp"):
            reduce_split(jnp.zeros(8), 0, "rows", "sum")
