"""Rows times the matrix of their group: `lax.ragged_dot`, and blocks of rows on CPUs."""
# SPDX-License-Identifier: Apache-2.0

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

_BLOCK_SIZES = (16, 512)  # rows of one product on CPUs, at least and at most


def grouped_product(
    x_FM: jax.Array, w_EMH: jax.Array, size_E: jax.Array, platform: str
) -> jax.Array:
    """Returns `x_f · w_e` [F, H] in float32 for the rows f of every group e.

    Rows of a group stand together, in the order of groups; zeros come out past the last group. The
    work follows the rows there are, not F. `platform` is what it is compiled for: in `ragged_dot`
    XLA:CPU multiplies all rows with all matrices, so for "cpu" blocks of rows are multiplied one
    after the other.
    """
    if platform == "cpu":
        return _blocked(x_FM, w_EMH, size_E)
    return jax.lax.ragged_dot(x_FM, w_EMH, size_E, preferred_element_type=jnp.float32)


class _Blocks(NamedTuple):
    """Which rows are multiplied together: blocks of one group each, in the order of rows."""

    num: jax.Array
    group_I: jax.Array  # I: blocks, as many as there can be
    start_I: jax.Array
    end_I: jax.Array  # past the group's rows; a block may reach beyond


def _block_size(num_rows: int, num_groups: int) -> int:
    """A quarter of a group's mean, so that the last block of each, half empty, costs an eighth.

    Few rows make blocks of the mean, for every block reads its group's matrix.
    """
    size, most = _BLOCK_SIZES
    mean = num_rows // num_groups
    while size * 2 <= min(most, max(min(64, mean), mean // 4)):
        size *= 2
    return size


def _cut(size_E: jax.Array, num_rows: int, block: int) -> _Blocks:
    blocks_E = -(-size_E // block)
    last_E, end_E = jnp.cumsum(blocks_E), jnp.cumsum(size_E)
    index_I = jnp.arange(num_rows // block + size_E.size, dtype=jnp.int32)
    group_I = jnp.searchsorted(last_E, index_I, side="right").astype(jnp.int32)
    group_I = jnp.minimum(group_I, size_E.size - 1)
    place_I = index_I - (last_E - blocks_E)[group_I]
    start_I = (end_E - size_E)[group_I] + place_I * block
    return _Blocks(last_E[-1], group_I, start_I, end_E[group_I])


def _multiply_rows(spec: str, x_FM, w_EMH, size_E, width: int) -> jax.Array:
    """Blocks of x times their group's matrix, as `spec` says for one block; float32 [F, width]."""
    num_rows, block = x_FM.shape[0], _block_size(x_FM.shape[0], size_E.size)
    blocks = _cut(size_E, num_rows, block)
    x_FM = jnp.pad(x_FM, ((0, block), (0, 0)))  # a slice past the end would be moved inside

    def body(index, y_FH):
        start = blocks.start_I[index]
        x_SM = jax.lax.dynamic_slice_in_dim(x_FM, start, block)
        w_MH = jax.lax.dynamic_index_in_dim(w_EMH, blocks.group_I[index], keepdims=False)
        y_SH = jnp.einsum(spec, x_SM, w_MH, preferred_element_type=jnp.float32)
        is_own_S1 = (start + jnp.arange(block) < blocks.end_I[index])[:, None]
        # What it writes past its group's rows, the next group overwrites.
        return jax.lax.dynamic_update_slice_in_dim(y_FH, jnp.where(is_own_S1, y_SH, 0.0), start, 0)

    y_FH = jnp.zeros((num_rows + block, width), jnp.float32)
    return jax.lax.fori_loop(0, blocks.num, body, y_FH)[:num_rows]


def _add_up_groups(x_FM, dy_FH, size_E) -> jax.Array:
    """The product of each group's rows, transposed, with their dy: float32 [E, M, H]."""
    block = _block_size(x_FM.shape[0], size_E.size)
    x_FM = jnp.pad(x_FM, ((0, block), (0, 0)))
    dy_FH = jnp.pad(dy_FH, ((0, block), (0, 0)))

    def add_block(index, dw_MH, start, end):
        row = start + index * block
        is_own_S1 = (row + jnp.arange(block) < end)[:, None]
        x_SM = jnp.where(is_own_S1, jax.lax.dynamic_slice_in_dim(x_FM, row, block), 0)
        dy_SH = jax.lax.dynamic_slice_in_dim(dy_FH, row, block)
        return dw_MH + jnp.einsum("SM,SH->MH", x_SM, dy_SH, preferred_element_type=jnp.float32)

    def group(start_and_end):
        start, end = start_and_end
        dw_MH = jnp.zeros((x_FM.shape[1], dy_FH.shape[1]), jnp.float32)
        function = functools.partial(add_block, start=start, end=end)
        return jax.lax.fori_loop(0, -(-(end - start) // block), function, dw_MH)

    end_E = jnp.cumsum(size_E)
    return jax.lax.map(group, (end_E - size_E, end_E))


@jax.custom_vjp
def _blocked(x_FM: jax.Array, w_EMH: jax.Array, size_E: jax.Array) -> jax.Array:
    return _multiply_rows("SM,MH->SH", x_FM, w_EMH, size_E, w_EMH.shape[2])


def _blocked_forward(x_FM, w_EMH, size_E):
    return _blocked(x_FM, w_EMH, size_E), (x_FM, w_EMH, size_E)


def _blocked_backward(residuals, dy_FH):
    x_FM, w_EMH, size_E = residuals
    dy_FH = dy_FH.astype(x_FM.dtype)
    dx_FM = _multiply_rows("SH,MH->SM", dy_FH, w_EMH, size_E, x_FM.shape[1])
    dw_EMH = _add_up_groups(x_FM, dy_FH, size_E)
    return dx_FM.astype(x_FM.dtype), dw_EMH.astype(w_EMH.dtype), None


_blocked.defvjp(_blocked_forward, _blocked_backward)
