"""Building blocks of a Transformer: parameters by letters, products, norm, dropout."""
# SPDX-License-Identifier: Apache-2.0

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from gshard_mt.model.quantized import Quantized, quantized_product
from gshard_mt.partitioning.annotate import platform

Sizes = dict[str, int]  # axis letter -> size of the axis
Keys = Iterator[jax.Array]  # random keys; each parameter takes the next

MASKED = -1e9  # a masked logit; finite, so that a row of padding stays finite
NORM_EPSILON = 1e-6
POSITION_BASE = 10_000.0  # of the wavelengths of the position encoding


def key_stream(key: jax.Array) -> Keys:
    """The keys that `nnx.Rngs(key)` would draw; its counter, an array, is slow to trace."""
    return (jax.random.fold_in(key, number) for number in itertools.count())


def uniform_parameter(
    keys: Keys, letters: str, sizes: Sizes, fan_in: str, scale: float = 1.0
) -> nnx.Param:
    """A float32 parameter, uniform with variance scale^2 / fan-in (GShard's public code).

    `fan_in` lists the letters that are summed over when the parameter is used.
    """
    bound = scale * math.sqrt(3.0 / math.prod(sizes[letter] for letter in fan_in))
    shape = tuple(sizes[letter] for letter in letters)
    value = jax.random.uniform(next(keys), shape, jnp.float32, -bound, bound)
    return nnx.Param(value)


def contract(spec: str, x: jax.Array, w: jax.Array | Quantized, dtype: Any) -> jax.Array:
    """An einsum of two operands, multiplied in `dtype` and summed in float32, gradients included.

    JAX's own gradient of a bfloat16 product with a float32 result multiplies in float32, which
    is several times slower on hardware with bfloat16 units.
    """
    if isinstance(w, Quantized):
        return quantized_product(spec, x, w).astype(dtype)
    return _contract(spec, x, w, dtype)  # type: ignore[return-value]


def product(spec: str, a: jax.Array, b: jax.Array) -> jax.Array:
    """The einsum of two operands with float32 sums.

    XLA:CPU has no batched bfloat16 products with float32 sums, so operands are widened there.
    """
    letters_a, letters_b, letters_y = spec.replace("->", ",").split(",")
    is_batched = set(letters_a) & set(letters_b) & set(letters_y)
    if is_batched and platform() == "cpu":
        a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    return jnp.einsum(spec, a, b, preferred_element_type=jnp.float32)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 3))
def _contract(spec: str, x: jax.Array, w: jax.Array, dtype: Any) -> jax.Array:
    return product(spec, x.astype(dtype), w.astype(dtype)).astype(dtype)


def _contract_forward(spec, x, w, dtype):
    x_low, w_low = x.astype(dtype), w.astype(dtype)
    # Empty arrays record the dtypes that the gradients must have.
    residuals = (x_low, w_low, jnp.zeros(0, x.dtype), jnp.zeros(0, w.dtype))
    return product(spec, x_low, w_low).astype(dtype), residuals


def _contract_backward(spec, dtype, residuals, dy):
    x, w, like_x, like_w = residuals
    letters_x, letters_w, letters_y = spec.replace("->", ",").split(",")
    dy = dy.astype(dtype)
    dx = product(f"{letters_y},{letters_w}->{letters_x}", dy, w)
    dw = _weight_gradient((letters_x, x), (letters_y, dy), letters_w)
    return dx.astype(like_x.dtype), dw.astype(like_w.dtype)


def _weight_gradient(left, right, letters_w: str) -> jax.Array:
    """The einsum of two operands that sums over tokens, with the cheaper one to transpose first.

    XLA:CPU transposes the first operand, and the result too unless its axes come out in order. The
    barrier keeps XLA from swapping the operands back.
    """
    letters = _kept(right, left, letters_w)
    if letters == letters_w:  # the result needs no transpose
        moved = right[1].size
    else:
        moved = right[1].size + math.prod(_sizes(left, right)[letter] for letter in letters_w)
    if moved < left[1].size:
        left, right = right, left
    letters = _kept(left, right, letters_w)
    dw = product(f"{left[0]},{right[0]}->{letters}", left[1], right[1])
    if letters != letters_w:
        dw = jnp.einsum(f"{letters}->{letters_w}", jax.lax.optimization_barrier(dw))
    return dw


def _kept(left, right, letters_w: str) -> str:
    """The letters of the weight, in the order that a product of the two operands has."""
    return "".join(c for c in dict.fromkeys(left[0] + right[0]) if c in letters_w)


def _sizes(left, right) -> Sizes:
    return dict(zip(left[0] + right[0], left[1].shape + right[1].shape, strict=True))


_contract.defvjp(_contract_forward, _contract_backward)


class Norm(nnx.Module):
    """Root-mean-square norm over M with a scale and no bias (GShard's public code)."""

    def __init__(self, sizes: Sizes):
        self.scale_M = nnx.Param(jnp.ones(sizes["M"], jnp.float32))

    def __call__(self, x_M: jax.Array) -> jax.Array:
        x_M = x_M.astype(jnp.float32)
        mean_square = jnp.mean(jnp.square(x_M), axis=-1, keepdims=True)
        return x_M * jax.lax.rsqrt(mean_square + NORM_EPSILON) * self.scale_M[...]


def _mix(bits: jax.Array) -> jax.Array:
    """Scrambles 32-bit words one to one (the two-round multiply-xorshift "lowbias32")."""
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x7FEB352D)
    bits = (bits ^ (bits >> 15)) * jnp.uint32(0x846CA68B)
    return bits ^ (bits >> 16)


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Zeroes elements with probability `rate` and scales the rest; the identity without a key.

    The mask is a hash of the element's index and the key. It does not depend on the sharding and
    costs a tenth of JAX's random bits, which would take a quarter of a training step on a CPU.
    """
    if key is None or rate == 0.0:
        return x
    word_0, word_1 = jax.random.bits(key, (2,), jnp.uint32)
    num_rows = math.prod(x.shape[:-1])
    row = jax.lax.iota(jnp.uint32, num_rows).reshape(*x.shape[:-1], 1)
    column = jax.lax.iota(jnp.uint32, x.shape[-1])
    bits = _mix(_mix(row + word_0) + column * jnp.uint32(0x9E3779B9) + word_1)
    is_kept = bits >= jnp.uint32(min(round(rate * 2**32), 2**32 - 1))
    return jnp.where(is_kept, x * jnp.asarray(1.0 / (1.0 - rate), x.dtype), jnp.zeros((), x.dtype))


def split_key(key: jax.Array | None, num: int) -> Sequence[jax.Array | None] | jax.Array:
    """`jax.random.split`; None, which means no randomness, becomes a list of None."""
    return [None] * num if key is None else jax.random.split(key, num)


def position_encoding(position_BL: jax.Array, model_dim: int) -> jax.Array:
    """Sines and cosines of the position [B, L, M] (Vaswani et al. 2017, section 3.5)."""
    half = model_dim // 2
    frequency_M = jnp.exp(jnp.arange(half) * (-math.log(POSITION_BASE) / max(half - 1, 1)))
    angle_BLM = position_BL[..., None].astype(jnp.float32) * frequency_M
    return jnp.concatenate([jnp.sin(angle_BLM), jnp.cos(angle_BLM)], axis=-1)
