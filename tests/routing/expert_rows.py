"""Rows of experts, their products and gradients by a plain loop, for tests of kernels."""
# SPDX-License-Identifier: Apache-2.0

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Problem(NamedTuple):
    """The sizes of a product of rows with the matrices of their experts."""

    rows: int
    model_dim: int
    ffn_dim: int
    sizes: list[int]


PROBLEMS = {
    "empty experts": Problem(96, 5, 7, [10, 0, 80, 0]),
    "one expert has all": Problem(96, 32, 64, [0, 0, 96]),
    "rows unused": Problem(200, 48, 40, [30, 1, 50]),
    "no row used": Problem(40, 16, 32, [0, 0]),
    "sizes of whole blocks": Problem(96, 32, 64, [32, 16, 48]),
    "nothing a multiple of the block": Problem(131, 37, 45, [17, 40, 0, 3, 71]),
}


def make(problem: Problem, dtype=jnp.float32):
    """Returns x_RM, w_EMH, size_E and dy_RH, such that sums are about 1."""
    rows, model_dim, ffn_dim, sizes = problem
    rng = np.random.default_rng(0)
    shapes = ((rows, model_dim), (len(sizes), model_dim, ffn_dim), (rows, ffn_dim))
    x_RM, w_EMH, dy_RH = (jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes)
    return x_RM / model_dim**0.5, w_EMH, jnp.asarray(sizes, jnp.int32), dy_RH / ffn_dim**0.5


@functools.partial(jax.jit, static_argnums=0)
def value_and_gradients(product, x_RM, w_EMH, size_E, dy_RH):
    y_RH, pull_back = jax.vjp(lambda x, w: product(x, w, size_E), x_RM, w_EMH)
    return (y_RH, *pull_back(dy_RH))


def check(product, problem: Problem) -> None:
    """Compares a product and both gradients with a loop over experts."""
    x_RM, w_EMH, size_E, dy_RH = make(problem)
    y_RH, dx_RM, dw_EMH = (np.zeros(array.shape) for array in (dy_RH, x_RM, w_EMH))
    start = 0
    for expert, size in enumerate(problem.sizes):
        rows = slice(start, start + size)
        y_RH[rows] = x_RM[rows] @ w_EMH[expert]
        dx_RM[rows] = dy_RH[rows] @ w_EMH[expert].T
        dw_EMH[expert] = x_RM[rows].T @ dy_RH[rows]
        start += size
    found = value_and_gradients(product, x_RM, w_EMH, size_E, dy_RH)
    for one, other in zip(found, (y_RH, dx_RM, dw_EMH), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def check_bfloat16(product, problem: Problem) -> None:
    """Compares a product and both gradients in bfloat16 with those of the same values in float32.

    Sums in another order may round to the neighbour: a step of bfloat16 is 1/128 at most.
    """
    arguments = make(problem, jnp.bfloat16)
    wide = [x if x.dtype == jnp.int32 else x.astype(jnp.float32) for x in arguments]
    found = value_and_gradients(product, *arguments)
    for one, other in zip(found, value_and_gradients(product, *wide), strict=True):
        assert one.dtype == jnp.bfloat16
        np.testing.assert_allclose(one.astype(jnp.float32), other, rtol=1 / 128, atol=1e-5)


def check_not_a_number(product) -> None:
    """Rows past the last expert may hold anything."""
    x_RM, w_EMH, size_E, dy_RH = make(Problem(60, 20, 24, [7, 20]))
    x_RM, dy_RH = x_RM.at[27:].set(jnp.nan), dy_RH.at[27:].set(jnp.nan)
    for array in value_and_gradients(product, x_RM, w_EMH, size_E, dy_RH):
        assert np.isfinite(array).all()
