"""Rows times the matrix of their expert, and both gradients, as Triton kernels for NVIDIA GPUs."""
# SPDX-License-Identifier: Apache-2.0

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from gshard_mt.routing.row_blocks import cut_rows


class Tile(NamedTuple):
    """What one program of the grid computes, in steps of `summed`; powers of two, 16 at least."""

    rows: int
    columns: int
    summed: int
    num_warps: int
    num_stages: int = 3  # steps whose operands are in shared memory


def default_tile(num_rows: int, num_experts: int, dtype: jnp.dtype) -> Tile:
    """Tiles of 128 x 128, lower if experts have fewer rows; three steps take 96 KiB at most."""
    rows = min(128, max(16, pl.next_power_of_2(max(1, num_rows // num_experts))))
    return Tile(rows, 128, 128 // dtype.itemsize, num_warps=8 if rows == 128 else 4)


def multiply(
    x_RM: jax.Array,
    w_EMH: jax.Array,
    size_E: jax.Array,
    tile: Tile | None = None,
    is_interpreted: bool = False,
) -> jax.Array:
    """Returns `x_r · w_e` [R, H] for the rows r of every expert e, zeros past the last expert.

    Sums are float32, the result has the type of the rows. `is_interpreted` runs the kernels by
    JAX's interpreter, on any hardware.
    """
    return _multiply(x_RM, w_EMH, size_E, tile, is_interpreted)  # type: ignore[return-value]


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _multiply(x_RM, w_EMH, size_E, tile, is_interpreted) -> jax.Array:
    return _multiply_rows(x_RM, w_EMH, size_E, tile, is_interpreted)


def _forward(x_RM, w_EMH, size_E, tile, is_interpreted):
    return _multiply_rows(x_RM, w_EMH, size_E, tile, is_interpreted), (x_RM, w_EMH, size_E)


def _backward(tile, is_interpreted, residuals, dy_RH):
    x_RM, w_EMH, size_E = residuals
    dx_RM = _multiply_rows(dy_RH, w_EMH, size_E, tile, is_interpreted, is_transposed=True)
    return dx_RM, _weight_gradients(x_RM, dy_RH, size_E, tile, is_interpreted), None


_multiply.defvjp(_forward, _backward)


def _multiply_rows(x_RM, w_EMH, size_E, tile, is_interpreted, is_transposed=False) -> jax.Array:
    """Blocks of rows times their expert's matrix or, for dx from dy, the transposed matrix.

    The rows past the last expert are one expert more, with nothing to sum.
    """
    (num_rows, summed), num_experts = x_RM.shape, size_E.size
    columns = w_EMH.shape[1 if is_transposed else 2]
    tile = tile or default_tile(num_rows, num_experts, x_RM.dtype)
    size_E = jnp.append(size_E, num_rows - size_E.sum()).astype(jnp.int32)
    blocks = cut_rows(size_E, num_rows, tile.rows)
    has_products_I = (blocks.expert_I < num_experts) & (blocks.start_I < blocks.end_I)
    steps_I = jnp.where(has_products_I, pl.cdiv(summed, tile.summed), 0)
    blocks = jnp.stack([blocks.expert_I, blocks.start_I, blocks.end_I, steps_I])

    def kernel(blocks, x_RM, w_EMH, y_RH):
        expert, start, end, num_steps = (blocks[number, pl.program_id(1)] for number in range(4))
        rows, is_row = pl.ds(start, tile.rows), _is_before(start, tile.rows, end)
        columns_at = _Range(pl.program_id(0) * tile.columns, tile.columns, columns)

        def add(step, y_RH):
            at = _Range(step * tile.summed, tile.summed, summed)
            tile_RM = _load(x_RM.at[rows, at.slice()], is_row, at.is_inside())
            if is_transposed:
                w_ref, inside = w_EMH.at[expert, columns_at.slice(), at.slice()], (columns_at, at)
            else:
                w_ref, inside = w_EMH.at[expert, at.slice(), columns_at.slice()], (at, columns_at)
            tile_MH = _load(w_ref, *(each.is_inside() for each in inside))
            return y_RH + triton.dot(tile_RM, tile_MH, trans_b=is_transposed)

        zeros_RH = jnp.zeros((tile.rows, tile.columns), jnp.float32)
        y = jax.lax.fori_loop(0, num_steps, add, zeros_RH)
        mask = is_row[:, None] & columns_at.is_inside()[None, :]
        triton.store(y_RH.at[rows, columns_at.slice()], y.astype(y_RH.dtype), mask=mask)

    return pl.pallas_call(
        kernel,
        # Columns first: programs that run together read the same rows and the same matrix.
        grid=(pl.cdiv(columns, tile.columns), blocks.shape[1]),
        out_shape=jax.ShapeDtypeStruct((num_rows, columns), x_RM.dtype),
        compiler_params=_compiler_params(tile),
        cost_estimate=_cost(num_rows, w_EMH.shape, x_RM.dtype),
        interpret=is_interpreted,
        name="expert_product_transposed" if is_transposed else "expert_product",
    )(blocks, x_RM, w_EMH)


def _weight_gradients(x_RM, dy_RH, size_E, tile, is_interpreted) -> jax.Array:
    """The product of each expert's rows, transposed, with their dy: [E, M, H]."""
    (num_rows, model_dim), ffn_dim, num_experts = x_RM.shape, dy_RH.shape[1], size_E.size
    tile = tile or default_tile(num_rows, 1, x_RM.dtype)
    end_E = jnp.cumsum(size_E)

    def kernel(start_E, end_E, x_RM, dy_RH, dw_EMH):
        expert = pl.program_id(2)
        start, end = start_E[expert], end_E[expert]
        at_M = _Range(pl.program_id(1) * tile.rows, tile.rows, model_dim)
        at_H = _Range(pl.program_id(0) * tile.columns, tile.columns, ffn_dim)

        def add(step, dw_MH):
            row = start + step * tile.summed
            rows, is_row = pl.ds(row, tile.summed), _is_before(row, tile.summed, end)
            tile_RM = _load(x_RM.at[rows, at_M.slice()], is_row, at_M.is_inside())
            tile_RH = _load(dy_RH.at[rows, at_H.slice()], is_row, at_H.is_inside())
            return dw_MH + triton.dot(tile_RM, tile_RH, trans_a=True)

        zeros_MH = jnp.zeros((tile.rows, tile.columns), jnp.float32)
        dw = jax.lax.fori_loop(0, pl.cdiv(end - start, tile.summed), add, zeros_MH)
        mask = at_M.is_inside()[:, None] & at_H.is_inside()[None, :]
        ref = dw_EMH.at[expert, at_M.slice(), at_H.slice()]
        triton.store(ref, dw.astype(dw_EMH.dtype), mask=mask)

    return pl.pallas_call(
        kernel,
        grid=(pl.cdiv(ffn_dim, tile.columns), pl.cdiv(model_dim, tile.rows), num_experts),
        out_shape=jax.ShapeDtypeStruct((num_experts, model_dim, ffn_dim), x_RM.dtype),
        compiler_params=_compiler_params(tile),
        cost_estimate=_cost(num_rows, (num_experts, model_dim, ffn_dim), x_RM.dtype),
        interpret=is_interpreted,
        name="expert_weight_gradients",
    )(end_E - size_E, end_E, x_RM, dy_RH)


class _Range(NamedTuple):
    """A block of an axis; the last one may exceed the axis."""

    start: jax.Array
    block: int
    size: int  # of the axis

    def slice(self) -> Any:
        return pl.ds(self.start, self.block)

    def is_inside(self) -> jax.Array:
        if self.size % self.block == 0:
            return jnp.ones(self.block, bool)
        return _is_before(self.start, self.block, self.size)


def _is_before(start, block: int, end) -> jax.Array:
    return start + jnp.arange(block) < end


def _load(ref, is_row: jax.Array, is_column: jax.Array) -> jax.Array:
    return triton.load(ref, mask=is_row[:, None] & is_column[None, :], other=0.0)


def _cost(num_rows: int, shape: tuple[int, ...], dtype: jnp.dtype) -> pl.CostEstimate:
    """What a product with matrices of this shape costs if all rows are in use."""
    num_experts, model_dim, ffn_dim = shape
    elements = num_rows * (model_dim + ffn_dim) + num_experts * model_dim * ffn_dim
    flops = 2 * num_rows * model_dim * ffn_dim
    return pl.CostEstimate(flops, transcendentals=0, bytes_accessed=elements * dtype.itemsize)


def _compiler_params(tile: Tile) -> triton.CompilerParams:
    return triton.CompilerParams(num_warps=tile.num_warps, num_stages=tile.num_stages)
