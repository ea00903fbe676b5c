"""Key/value cache of the decoder for beam search, and attention over the steps in use."""
# SPDX-License-Identifier: Apache-2.0

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gshard_mt.model.layers import MASKED, product
from gshard_mt.partitioning.annotate import shard

_CHUNK = 16  # steps that attention reads at a time


class Cache(NamedTuple):
    """Keys and values of the last T steps in a ring buffer, where they stay as written.

    Each step has an entry for each of W beams, and a beam's history is a list of ancestors. So
    reordering the beams moves only ancestor numbers, and a row that starts another sentence only
    forgets the steps before it.
    """

    # P: all decoder layers, I: chunks of steps, L: the steps of a chunk times W beams. Keys are
    # transposed, as the product with queries needs them.
    k_PIBNDL: jax.Array
    v_PIBNLD: jax.Array
    ancestor_BWT: jax.Array  # the beam that wrote step T of this beam's history
    step: jax.Array  # number of the next step, which is written at `step % T`

    def reorder(self, parent_BW: jax.Array) -> "Cache":
        """Returns the cache of beams that each continue beam `parent_BW`."""
        ancestor_BWT = jnp.take_along_axis(self.ancestor_BWT, parent_BW[:, :, None], axis=1)
        return self._replace(ancestor_BWT=ancestor_BWT)

    def write(self, k_PBNWD: jax.Array, v_PBNWD: jax.Array) -> "Cache":
        """Returns the cache with one more step: every beam's keys and values in all layers."""
        num_beams, num_steps = self.ancestor_BWT.shape[1:]
        index = self.step % num_steps
        chunk, start = index // _CHUNK, index % _CHUNK * num_beams
        k_PIBNDW = k_PBNWD.swapaxes(3, 4)[:, None].astype(self.k_PIBNDL.dtype)
        v_PIBNWD = v_PBNWD[:, None].astype(self.v_PIBNLD.dtype)
        is_here_T = jnp.arange(num_steps) == index
        write = jax.lax.dynamic_update_slice
        return Cache(
            write(self.k_PIBNDL, k_PIBNDW, (0, chunk, 0, 0, 0, start)),
            write(self.v_PIBNLD, v_PIBNWD, (0, chunk, 0, 0, start, 0)),
            jnp.where(is_here_T, jnp.arange(num_beams)[:, None], self.ancestor_BWT),
            self.step + 1,
        )


class CacheView(NamedTuple):
    """The part of a cache that the beams see in one layer."""

    cache: Cache
    layer: jax.Array  # index on axis P
    is_own_BWL: jax.Array  # which entries are a beam's own earlier steps
    num_chunks: jax.Array  # to read, from the newest backwards


def empty_cache(
    shape_PBND: tuple[int, int, int, int], num_beams: int, num_steps: int, dtype: Any
) -> Cache:
    """Returns a cache for at least `num_steps` steps of every layer, row, head and beam."""
    num_layers, num_rows, num_heads, head_dim = shape_PBND
    num_steps = -(-num_steps // _CHUNK) * _CHUNK
    shape = (num_layers, num_steps // _CHUNK, num_rows, num_heads, _CHUNK * num_beams, head_dim)
    v_PIBNLD = jnp.zeros(shape, dtype)
    k_PIBNDL = v_PIBNLD.swapaxes(4, 5)
    ancestor_BWT = jnp.zeros((num_rows, num_beams, num_steps), jnp.int32)
    step = jnp.zeros((), jnp.int32)
    return Cache(shard(k_PIBNDL, "BNDL"), shard(v_PIBNLD, "BNLD"), ancestor_BWT, step)


def visible_steps(cache: Cache, position_B: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns `is_own_BWL` and `num_chunks` of a CacheView: the last `position_B` steps of a row.

    `position_B` must be smaller than the number of steps in the cache.
    """
    num_rows, num_beams, num_steps = cache.ancestor_BWT.shape
    newest = cache.step - 1
    age_T = (newest - jnp.arange(num_steps)) % num_steps  # 0 is the newest
    is_own_BWTW = cache.ancestor_BWT[..., None] == jnp.arange(num_beams)
    is_own_BWTW &= (age_T < position_B[:, None])[:, None, :, None]
    num_in_newest = newest % _CHUNK + 1  # steps in the newest chunk
    longest = jnp.max(position_B)
    num_chunks = 1 + -(-jnp.maximum(longest - num_in_newest, 0) // _CHUNK)
    num_chunks = jnp.where(longest > 0, jnp.minimum(num_chunks, num_steps // _CHUNK), 0)
    return is_own_BWTW.reshape(num_rows, num_beams, -1), num_chunks


def attend_to_cache(q_BNWD: jax.Array, new_kv, view: CacheView) -> jax.Array:
    """Attention of each beam to its own earlier steps and the new one; [B, N, W, D], float32.

    A running softmax over chunks, so that the cost follows the longest row in use and not the size
    of the cache. Queries are scaled; `new_kv` are this step's keys and values, [B, N, W, D] each.
    """
    k_BNWD, v_BNWD = (each.astype(jnp.float32) for each in new_kv)
    num_beams, num_steps = view.cache.ancestor_BWT.shape[1:]
    width, num_chunks = _CHUNK * num_beams, num_steps // _CHUNK
    newest = (view.cache.step - 1) % num_steps // _CHUNK

    def read(x_PIB: jax.Array, chunk: jax.Array) -> jax.Array:
        starts, sizes = (view.layer, chunk, 0, 0, 0, 0), (1, 1, *x_PIB.shape[2:])
        return jax.lax.dynamic_slice(x_PIB, starts, sizes)[0, 0]

    def add_chunk(index, sums):
        max_BNW1, weight_BNW1, y_BNWD = sums
        chunk = (newest - index) % num_chunks
        logits_BNWL = product("BNWD,BNDL->BNWL", q_BNWD, read(view.cache.k_PIBNDL, chunk))
        is_own_BWL = jax.lax.dynamic_slice_in_dim(view.is_own_BWL, chunk * width, width, axis=2)
        logits_BNWL = jnp.where(is_own_BWL[:, None], logits_BNWL, MASKED)
        new_max_BNW1 = jnp.maximum(max_BNW1, jnp.max(logits_BNWL, axis=3, keepdims=True))
        p_BNWL = jnp.exp(logits_BNWL - new_max_BNW1)
        scale_BNW1 = jnp.exp(max_BNW1 - new_max_BNW1)
        v_BNLD = read(view.cache.v_PIBNLD, chunk)
        return (
            new_max_BNW1,
            weight_BNW1 * scale_BNW1 + jnp.sum(p_BNWL, axis=3, keepdims=True),
            y_BNWD * scale_BNW1 + product("BNWL,BNLD->BNWD", p_BNWL.astype(q_BNWD.dtype), v_BNLD),
        )

    logit_BNW1 = jnp.sum(q_BNWD.astype(jnp.float32) * k_BNWD, axis=3, keepdims=True)
    sums = (logit_BNW1, jnp.ones_like(logit_BNW1), v_BNWD)
    _, weight_BNW1, y_BNWD = jax.lax.fori_loop(0, view.num_chunks, add_chunk, sums)
    return y_BNWD / weight_BNW1
