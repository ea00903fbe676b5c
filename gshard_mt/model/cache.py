"""Cache: keys and values of earlier target positions, and attention to as many as there are."""
# SPDX-License-Identifier: Apache-2.0

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gshard_mt.model.layers import MASKED, product
from gshard_mt.partitioning.annotate import shard

_CHUNK = 16  # steps that attention looks at together


class Cache(NamedTuple):
    """Keys and values of the last T steps, which stay where they were written.

    A step has a place for each of W beams. A beam is known by its ancestors, so that nothing but
    their numbers moves when beams do; and a row that begins another sentence only forgets the
    steps before.
    """

    # P: all decoder layers, I: chunks of steps, L: the places of a chunk. What is read together
    # lies together, and keys lie as the product with queries reads them.
    k_PIBNDL: jax.Array
    v_PIBNLD: jax.Array
    ancestor_BWT: jax.Array  # which beam's place of a step the beam has come through
    clock: jax.Array  # the step that comes next; it is written at `clock % T`

    def follow(self, parent_BW: jax.Array) -> "Cache":
        """Returns the cache of beams each of which continues beam `parent_BW`."""
        ancestor_BWT = jnp.take_along_axis(self.ancestor_BWT, parent_BW[:, :, None], axis=1)
        return self._replace(ancestor_BWT=ancestor_BWT)

    def write(self, k_PBNWD: jax.Array, v_PBNWD: jax.Array) -> "Cache":
        """Returns the cache with one step more: every beam's keys and values in all layers."""
        num_beams, num_steps = self.ancestor_BWT.shape[1:]
        step = self.clock % num_steps
        chunk, place = step // _CHUNK, step % _CHUNK * num_beams
        k_PIBNDW = k_PBNWD.swapaxes(3, 4)[:, None].astype(self.k_PIBNDL.dtype)
        v_PIBNWD = v_PBNWD[:, None].astype(self.v_PIBNLD.dtype)
        write = jax.lax.dynamic_update_slice
        is_here_T = jnp.arange(num_steps) == step
        return Cache(
            write(self.k_PIBNDL, k_PIBNDW, (0, chunk, 0, 0, 0, place)),
            write(self.v_PIBNLD, v_PIBNWD, (0, chunk, 0, 0, place, 0)),
            jnp.where(is_here_T, jnp.arange(num_beams)[:, None], self.ancestor_BWT),
            self.clock + 1,
        )


class View(NamedTuple):
    """What the beams of a step see of a cache."""

    cache: Cache
    is_own_BWL: jax.Array  # which places hold a beam's own earlier steps
    num_chunks: jax.Array  # to look at, from the newest backwards


def empty_cache(
    shape_PBND: tuple[int, int, int, int], num_beams: int, num_steps: int, dtype: Any
) -> Cache:
    """Returns room for `num_steps` steps at least, of every layer, row, beam and head."""
    num_layers, num_rows, num_heads, head_dim = shape_PBND
    num_steps = -(-num_steps // _CHUNK) * _CHUNK
    shape = (num_layers, num_steps // _CHUNK, num_rows, num_heads, _CHUNK * num_beams, head_dim)
    v_PIBNLD = jnp.zeros(shape, dtype)
    k_PIBNDL = v_PIBNLD.swapaxes(4, 5)
    ancestor_BWT = jnp.zeros((num_rows, num_beams, num_steps), jnp.int32)
    clock = jnp.zeros((), jnp.int32)
    return Cache(shard(k_PIBNDL, "BNDL"), shard(v_PIBNLD, "BNLD"), ancestor_BWT, clock)


def look_back(cache: Cache, position_B: jax.Array) -> View:
    """Returns what beams see that have `position_B` steps behind them, fewer than there is room."""
    num_rows, num_beams, num_steps = cache.ancestor_BWT.shape
    newest = cache.clock - 1
    age_T = (newest - jnp.arange(num_steps)) % num_steps  # 0 is the newest
    is_own_BWTW = cache.ancestor_BWT[..., None] == jnp.arange(num_beams)
    is_own_BWTW &= (age_T < position_B[:, None])[:, None, :, None]
    # The newest chunk holds that many of the steps.
    num_in_first = newest % _CHUNK + 1
    most = jnp.max(position_B)
    num_chunks = 1 + -(-jnp.maximum(most - num_in_first, 0) // _CHUNK)
    num_chunks = jnp.where(most > 0, jnp.minimum(num_chunks, num_steps // _CHUNK), 0)
    return View(cache, is_own_BWTW.reshape(num_rows, num_beams, -1), num_chunks)


def attend_back(q_BNWD, new_kv, view: View, layer: jax.Array) -> jax.Array:
    """Attention of every beam to its own earlier steps and to the new one; [B, N, W, D], float32.

    A softmax that is summed up chunk by chunk, so that the work follows the longest of the rows
    and not the room. Queries are scaled; `new_kv` are keys and values [B, N, W, D] of this step.
    """
    k_BNWD, v_BNWD = (each.astype(jnp.float32) for each in new_kv)
    num_beams, num_steps = view.cache.ancestor_BWT.shape[1:]
    width, num_chunks = _CHUNK * num_beams, num_steps // _CHUNK
    first = (view.cache.clock - 1) % num_steps // _CHUNK
    dtype = q_BNWD.dtype

    def cut(x_PIB: jax.Array, chunk: jax.Array) -> jax.Array:
        starts, sizes = (layer, chunk, 0, 0, 0, 0), (1, 1, *x_PIB.shape[2:])
        return jax.lax.dynamic_slice(x_PIB, starts, sizes)[0, 0]

    def add_chunk(index, sums):
        most_BNW1, weight_BNW1, y_BNWD = sums
        chunk = (first - index) % num_chunks
        k_BNDL = cut(view.cache.k_PIBNDL, chunk)
        logits_BNWL = product("BNWD,BNDL->BNWL", q_BNWD, k_BNDL)
        is_own_BWL = jax.lax.dynamic_slice_in_dim(view.is_own_BWL, chunk * width, width, axis=2)
        logits_BNWL = jnp.where(is_own_BWL[:, None], logits_BNWL, MASKED)
        new_most_BNW1 = jnp.maximum(most_BNW1, jnp.max(logits_BNWL, axis=3, keepdims=True))
        p_BNWL = jnp.exp(logits_BNWL - new_most_BNW1)
        scale_BNW1 = jnp.exp(most_BNW1 - new_most_BNW1)
        v_BNLD = cut(view.cache.v_PIBNLD, chunk)
        return (
            new_most_BNW1,
            weight_BNW1 * scale_BNW1 + jnp.sum(p_BNWL, axis=3, keepdims=True),
            y_BNWD * scale_BNW1 + product("BNWL,BNLD->BNWD", p_BNWL.astype(dtype), v_BNLD),
        )

    logit_BNW1 = jnp.sum(q_BNWD.astype(jnp.float32) * k_BNWD, axis=3, keepdims=True)
    sums = (logit_BNW1, jnp.ones_like(logit_BNW1), v_BNWD)
    _, weight_BNW1, y_BNWD = jax.lax.fori_loop(0, view.num_chunks, add_chunk, sums)
    return y_BNWD / weight_BNW1
