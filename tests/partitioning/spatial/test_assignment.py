"""A device assignment puts every part on the device that it names."""
# SPDX-License-Identifier: Apache-2.0

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gshard_mt.partitioning.spatial.assignment import assign, assigned_sharding

ORDER = [3, 1, 0, 2, 7, 6, 4, 5]


@pytest.mark.parametrize("wrap", [jax.jit, lambda f: f], ids=["jit", "eager"])
@pytest.mark.parametrize("shape", [(1, 2, 4), (1, 8, 1), (8, 1, 1), (2, 2, 2)])
def test_the_device_that_an_entry_names_holds_that_part(shape, wrap):
    x = jnp.arange(8 * 16 * 64.0).reshape(8, 16, 64)
    assignment = np.reshape(ORDER, shape)
    y = wrap(lambda x: assign(x * 1, assignment))(x)
    held = {piece.device: np.asarray(piece.data) for piece in y.addressable_shards}
    sizes = [size // parts for size, parts in zip(x.shape, shape, strict=True)]
    for index in np.ndindex(shape):
        part = tuple(slice(i * n, (i + 1) * n) for i, n in zip(index, sizes, strict=True))
        np.testing.assert_array_equal(held[jax.devices()[assignment[index]]], x[part])


def test_the_example_of_the_paper_has_parts_of_3_8_16():
    y = assign(jnp.zeros((3, 16, 64)), np.reshape(ORDER, (1, 2, 4)))
    assert {piece.data.shape for piece in y.addressable_shards} == {(3, 8, 16)}


def test_a_jitted_program_goes_on_in_the_order_of_an_assignment_and_has_its_gradient():
    assignment = np.reshape(ORDER, (2, 4))
    x = assign(jnp.arange(64.0).reshape(8, 8), assignment)
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(assign(x**2, assignment))))(x)
    assert gradient.sharding.is_equivalent_to(assigned_sharding(assignment), 2)
    np.testing.assert_array_equal(gradient, 2 * x)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        (np.arange(8), r"of shape \(8,\) has rank 1, the array of shape \(4, 8\) has 2"),
        ([[0, 1, 2, 3], [4, 5, 6, 6]], r"each device from 0 to 7 once, not \[\[0"),
        ([[0, 1], [2, 3]], "each device from 0 to 7 once"),
        ([[8, 1, 2, 3], [4, 5, 6, 7]], "each device from 0 to 7 once"),
        (np.arange(8).reshape(8, 1), r"\(8, 1\) parts don't divide the shape \(4, 8\); pad it"),
    ],
)
def test_an_assignment_that_does_not_fit_is_refused(assignment, message):
    with pytest.raises(ValueError, match=message):
        assign(jnp.zeros((4, 8)), assignment)
