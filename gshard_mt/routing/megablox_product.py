"""Rows times the matrix of their expert, and both gradients, by JAX's megablox kernels for TPUs."""
# SPDX-License-Identifier: Apache-2.0

import functools
import importlib

import jax
import jax.numpy as jnp

# The package hides this module behind a function of the same name.
_kernels = importlib.import_module("jax.experimental.pallas.ops.tpu.megablox.gmm")

_ROWS = (128, 512)  # of a tile, at least and at most
_COLUMNS = 1024  # of y in a tile, at most
_SUMMED_BYTES = 2048  # of a row of x in a tile, at most


def multiply(
    x_RM: jax.Array, w_EMH: jax.Array, size_E: jax.Array, is_interpreted: bool = False
) -> jax.Array:
    """Returns `x_r · w_e` [R, H] for the rows r of every expert e, zeros past the last expert.

    Sums are float32, the result has the type of the rows. `is_interpreted` runs the kernels by
    JAX's interpreter, on any hardware.
    """
    return _multiply(x_RM, w_EMH, size_E, is_interpreted)  # type: ignore[return-value]


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _multiply(x_RM, w_EMH, size_E, is_interpreted) -> jax.Array:
    return _multiply_rows(x_RM, w_EMH, size_E, is_interpreted)


def _forward(x_RM, w_EMH, size_E, is_interpreted):
    return _multiply_rows(x_RM, w_EMH, size_E, is_interpreted), (x_RM, w_EMH, size_E)


def _backward(is_interpreted, residuals, dy_RH):
    x_RM, w_EMH, size_E = residuals
    dx_RM = _multiply_rows(dy_RH, w_EMH, size_E, is_interpreted, is_transposed=True)
    dw_EMH = _kernels.tgmm(
        _pad(x_RM, size_E.size).swapaxes(0, 1),
        _pad(dy_RH, size_E.size),
        size_E,
        w_EMH.dtype,
        _tile(x_RM, size_E.size, w_EMH.shape[2]),
        interpret=is_interpreted,
    )
    return dx_RM, dw_EMH, None


_multiply.defvjp(_forward, _backward)


def _multiply_rows(x_RM, w_EMH, size_E, is_interpreted, is_transposed=False) -> jax.Array:
    """Rows times their expert's matrix or, for dx from dy, the transposed matrix."""
    y_RH = _kernels.gmm(
        _pad(x_RM, size_E.size),
        w_EMH,
        size_E,
        x_RM.dtype,
        _tile(x_RM, size_E.size, w_EMH.shape[1 if is_transposed else 2]),
        transpose_rhs=is_transposed,
        interpret=is_interpreted,
    )[: len(x_RM)]
    is_used_R = jnp.arange(len(x_RM)) < size_E.sum()  # the kernel leaves the others unwritten
    return jnp.where(is_used_R[:, None], y_RH, 0)


def _tile(x_RM: jax.Array, num_experts: int, columns: int) -> tuple[int, int, int]:
    """A tile's rows, columns of x and columns of y; a shorter axis is not cut."""
    summed = min(_SUMMED_BYTES // x_RM.dtype.itemsize, x_RM.shape[1])
    return _tile_rows(len(x_RM), num_experts), summed, min(_COLUMNS, columns)


def _tile_rows(num_rows: int, num_experts: int) -> int:
    """About an expert's mean: every expert with rows in a tile multiplies all of it."""
    least, most = _ROWS
    mean = 1 << (num_rows // num_experts).bit_length()
    return min(max(least, min(most, mean)), -(-num_rows // 16) * 16)


def _pad(x_RM: jax.Array, num_experts: int) -> jax.Array:
    """Adds rows up to a multiple of a tile's."""
    return jnp.pad(x_RM, ((0, -len(x_RM) % _tile_rows(len(x_RM), num_experts)), (0, 0)))
