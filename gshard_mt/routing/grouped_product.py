"""Rows times the matrix of their expert, by the kernels that the hardware has."""
# SPDX-License-Identifier: Apache-2.0

import contextlib
import functools
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gshard_mt.routing.row_blocks import cut_rows

_BLOCK_SIZES = (16, 512)  # rows of one product on CPUs, at least and at most
_SLOTTED = (4, 256)  # mean rows of an expert for which slots are faster than blocks alone


def grouped_product(
    x_RM: jax.Array,
    w_EMH: jax.Array,
    size_E: jax.Array,
    platform: str,
    scale_EH: jax.Array | None = None,
) -> jax.Array:
    """Returns `x_r · w_e` [R, H] in float32 for the rows r of every expert e.

    If both are int8, the sums are int32, and `scale_EH` multiplies them; there is no gradient.

    An expert's rows are contiguous, in the order of experts; rows past the last expert give zeros.
    The work grows with the rows in use, not with R. `platform` is the compilation target, whose row
    of `PRODUCTS` does it; a platform without one uses `lax.ragged_dot`. Kernels round the sums to
    the type of the rows.
    """
    if scale_EH is None:
        return PRODUCTS.get(platform, _ragged_product)(x_RM, w_EMH, size_E)
    if platform == "cpu":
        return _multiply_on_cpu(x_RM, w_EMH, size_E, scale_EH)
    y_RH = jax.lax.ragged_dot(x_RM, w_EMH, size_E, preferred_element_type=jnp.int32)
    expert_R = jnp.searchsorted(jnp.cumsum(size_E), jnp.arange(len(x_RM)), side="right")
    return y_RH.astype(jnp.float32) * scale_EH.at[expert_R].get(mode="fill", fill_value=0)


def _ragged_product(x_RM, w_EMH, size_E) -> jax.Array:
    return jax.lax.ragged_dot(x_RM, w_EMH, size_E, preferred_element_type=jnp.float32)


def _multiply_on_gpu(x_RM, w_EMH, size_E) -> jax.Array:
    """Kernels for NVIDIA's GPUs since Ampere, whose compute capability is 8.0; AMD's have names."""
    major = str(getattr(jax.devices()[0], "compute_capability", "")).split(".")[0]
    if major.isdecimal() and int(major) >= 8:
        # JAX 0.11 deprecates what they are written in, and is slow to import it.
        with contextlib.suppress(ImportError):
            from gshard_mt.routing import triton_product

            return triton_product.multiply(x_RM, w_EMH, size_E).astype(jnp.float32)
    return _ragged_product(x_RM, w_EMH, size_E)


def _multiply_on_tpu(x_RM, w_EMH, size_E) -> jax.Array:
    """Kernels for TPUs since v4; earlier ones don't multiply bfloat16 in kernels."""
    device = getattr(jax.sharding.get_abstract_mesh(), "abstract_device", None) or jax.devices()[0]
    generation = re.match(r"TPU ?v?(\d+)", str(device.device_kind))
    if generation and int(generation[1]) >= 4:
        with contextlib.suppress(ImportError):  # they are experimental
            from gshard_mt.routing import megablox_product

            return megablox_product.multiply(x_RM, w_EMH, size_E).astype(jnp.float32)
    return _ragged_product(x_RM, w_EMH, size_E)


def _block_size(num_rows: int, num_experts: int) -> int:
    """A quarter of an expert's mean: its last block, on average half empty, then costs an eighth.

    With few rows a block is the mean, since every block reads its expert's matrix.
    """
    size, most = _BLOCK_SIZES
    mean = num_rows // num_experts
    while size * 2 <= min(most, max(min(64, mean), mean // 4)):
        size *= 2
    return size


def _multiply_on_cpu(x_RM, w_EMH, size_E, scale_EH=None) -> jax.Array:
    """Slots for the first rows of each expert and blocks for the rest, or blocks alone.

    A block copies its expert's matrix, so it is slow for few rows. The product of [E, C, M] with
    the matrices copies none; with C of 1.5 times the mean, few rows are left.
    """
    num_rows, num_experts = x_RM.shape[0], size_E.size
    least, most = _SLOTTED
    if not least * num_experts <= num_rows <= most * num_experts:
        return _multiply_rows("RM,MH->RH", x_RM, w_EMH, size_E, scale_EH)
    capacity = -(-3 * num_rows // (16 * num_experts)) * 8
    end_E = jnp.cumsum(size_E)
    start_E = end_E - size_E
    slot_EC = start_E[:, None] + jnp.arange(capacity)
    x_ECM = x_RM.at[slot_EC].get(mode="clip")  # rows of the next expert in slots that are left over
    sums = jnp.float32 if scale_EH is None else jnp.int32
    y_ECH = jnp.einsum("ECM,EMH->ECH", x_ECM, w_EMH, preferred_element_type=sums)
    if scale_EH is not None:
        y_ECH = y_ECH.astype(jnp.float32) * scale_EH[:, None]
    index_R = jnp.arange(num_rows)
    expert_R = jnp.searchsorted(end_E, index_R, side="right")
    rank_R = index_R - start_E.at[expert_R].get(mode="clip")
    slot_R = expert_R * capacity + rank_R  # wrong past the capacity: blocks overwrite those rows
    y_RH = y_ECH.reshape(-1, y_ECH.shape[2]).at[slot_R].get(mode="fill", fill_value=0)
    return _multiply_rows("RM,MH->RH", x_RM, w_EMH, size_E, scale_EH, _Done(capacity, y_RH))


class _Done(NamedTuple):
    """Products that are not to be computed again."""

    num: int  # first rows of each expert
    y_RH: jax.Array  # the result with these


def _multiply_rows(
    spec: str, x_RM, w_EMH, size_E, scale_EH=None, done: _Done | None = None
) -> jax.Array:
    """Blocks of x times their expert's matrix, by the einsum `spec`; float32 [R, width].

    With a scale, integers are multiplied.
    """
    sums = jnp.float32 if scale_EH is None else jnp.int32
    num_rows, block = x_RM.shape[0], _block_size(x_RM.shape[0], size_E.size)
    if done is None:
        width = w_EMH.shape["EMH".index(spec[-1])]
        done = _Done(0, jnp.zeros((num_rows, width), jnp.float32))
    blocks = cut_rows(size_E, num_rows, block, done.num)
    x_RM = jnp.pad(x_RM, ((0, block), (0, 0)))  # a slice past the end would be moved inside

    def body(index, y_RH):
        start = blocks.start_I[index]
        block_RM = jax.lax.dynamic_slice_in_dim(x_RM, start, block)
        w_MH = jax.lax.dynamic_index_in_dim(w_EMH, blocks.expert_I[index], keepdims=False)
        is_own_R1 = (start + jnp.arange(block) < blocks.end_I[index])[:, None]
        product_RH = jnp.einsum(spec, block_RM, w_MH, preferred_element_type=sums)
        if scale_EH is not None:
            product_RH = product_RH.astype(jnp.float32) * scale_EH[blocks.expert_I[index]]
        others_RH = jax.lax.dynamic_slice_in_dim(y_RH, start, block)
        product_RH = jnp.where(is_own_R1, product_RH, others_RH)
        return jax.lax.dynamic_update_slice_in_dim(y_RH, product_RH, start, 0)

    y_RH = jnp.pad(done.y_RH, ((0, block), (0, 0)))
    return jax.lax.fori_loop(0, blocks.num, body, y_RH)[:num_rows]


def _weight_gradients(x_RM, dy_RH, size_E) -> jax.Array:
    """The product of each expert's rows, transposed, with their dy: float32 [E, M, H]."""
    block = _block_size(x_RM.shape[0], size_E.size)
    x_RM = jnp.pad(x_RM, ((0, block), (0, 0)))
    dy_RH = jnp.pad(dy_RH, ((0, block), (0, 0)))

    def add_block(index, dw_MH, start, end):
        row = start + index * block
        is_own_R1 = (row + jnp.arange(block) < end)[:, None]
        block_RM = jnp.where(is_own_R1, jax.lax.dynamic_slice_in_dim(x_RM, row, block), 0)
        block_RH = jax.lax.dynamic_slice_in_dim(dy_RH, row, block)
        dblock_MH = jnp.einsum("RM,RH->MH", block_RM, block_RH, preferred_element_type=jnp.float32)
        return dw_MH + dblock_MH

    def add_expert(start_and_end):
        start, end = start_and_end
        dw_MH = jnp.zeros((x_RM.shape[1], dy_RH.shape[1]), jnp.float32)
        function = functools.partial(add_block, start=start, end=end)
        return jax.lax.fori_loop(0, -(-(end - start) // block), function, dw_MH)

    end_E = jnp.cumsum(size_E)
    return jax.lax.map(add_expert, (end_E - size_E, end_E))


@jax.custom_vjp
def _multiply_with_gradient(x_RM: jax.Array, w_EMH: jax.Array, size_E: jax.Array) -> jax.Array:
    return _multiply_on_cpu(x_RM, w_EMH, size_E)


def _forward(x_RM, w_EMH, size_E):
    y_RH = _multiply_rows("RM,MH->RH", x_RM, w_EMH, size_E)
    return y_RH, (x_RM, w_EMH, size_E)


def _backward(residuals, dy_RH):
    x_RM, w_EMH, size_E = residuals
    dy_RH = dy_RH.astype(x_RM.dtype)
    dx_RM = _multiply_rows("RH,MH->RM", dy_RH, w_EMH, size_E)
    dw_EMH = _weight_gradients(x_RM, dy_RH, size_E)
    return dx_RM.astype(x_RM.dtype), dw_EMH.astype(w_EMH.dtype), None


_multiply_with_gradient.defvjp(_forward, _backward)

# XLA's `ragged_dot` on CPUs multiplies all rows with all matrices. So does its gradient of the
# matrices on TPUs; on GPUs it pads.
PRODUCTS = {"cpu": _multiply_with_gradient, "gpu": _multiply_on_gpu, "tpu": _multiply_on_tpu}
