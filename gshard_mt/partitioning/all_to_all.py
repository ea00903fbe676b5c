"""The all-to-all that exchanges an array's two leading axes, groups and experts."""
# SPDX-License-Identifier: Apache-2.0

import functools

import jax
import jax.numpy as jnp

from gshard_mt.partitioning.annotate import shard


def expert_all_to_all(x: jax.Array, letters: str, dtype: str) -> jax.Array:
    """Returns `x` with its first two axes exchanged; `letters` are those of `x`.

    `GECM` to `EGCM` takes the slots of all groups to the experts' devices, `EGCM` to `GECM` takes
    them back: the two all-to-alls of the paper (section 3.2). Both sides of the transposition are
    annotated; otherwise XLA gathers an expert weight instead. Values and gradients travel as
    `dtype`: `same`, `bfloat16`, or `int8` with one float32 scale for each last axis.
    """
    return _move(x, letters) if dtype == "same" else _move_rounded(x, letters, dtype)


def _exchange(letters: str) -> str:
    return letters[1] + letters[0] + letters[2:]


def _move(x: jax.Array, letters: str) -> jax.Array:
    return shard(jnp.swapaxes(shard(x, letters), 0, 1), _exchange(letters))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _move_rounded(x: jax.Array, letters: str, dtype: str) -> jax.Array:
    if dtype == "bfloat16":
        return _move(x.astype(jnp.bfloat16), letters).astype(x.dtype)
    scale = jnp.max(jnp.abs(x.astype(jnp.float32)), axis=-1, keepdims=True) / 127.0
    rounded = jnp.round(x.astype(jnp.float32) / jnp.maximum(scale, 1e-30)).astype(jnp.int8)
    return (_move(rounded, letters).astype(jnp.float32) * _move(scale, letters)).astype(x.dtype)


def _move_rounded_forward(x, letters, dtype):
    return _move_rounded(x, letters, dtype), None


def _move_rounded_backward(letters, dtype, _, dy):
    return (_move_rounded(dy, _exchange(letters), dtype),)


_move_rounded.defvjp(_move_rounded_forward, _move_rounded_backward)
