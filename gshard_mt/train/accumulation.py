"""Micro-batches: a batch cut into parts whose sums and gradients add up to its own."""
# SPDX-License-Identifier: Apache-2.0

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gshard_mt.data.batches import Batch
from gshard_mt.partitioning.annotate import shard


def unit_rows(batch: Batch, group_size: int) -> int:
    """Returns the smallest number of rows made of whole groups of tokens on both sides."""
    lengths = (batch.source_BL.shape[1], batch.label_BT.shape[1])
    return math.lcm(*(group_size // math.gcd(group_size, length) for length in lengths))


def cut_batch(batch: Batch, num_parts: int, unit: int) -> Batch:
    """Returns the batch as `num_parts` micro-batches: [num_parts, rows, L] of every [B, L].

    Units of `unit` rows are dealt out in turn. So every device finds its share of each micro-batch
    among its own rows, nothing is sent, groups of tokens stay whole, and which rows are together
    does not depend on the mesh.
    """

    def cut(x_BL: jax.Array) -> jax.Array:
        num_rows, length = x_BL.shape
        dealt = x_BL.reshape(-1, num_parts, unit, length).swapaxes(0, 1)
        return shard(dealt.reshape(num_parts, num_rows // num_parts, length), "BL")

    return Batch(*(cut(x_BL) for x_BL in batch))


def add_up(function: Callable[[Batch, Any], Any], batches: Batch, key: jax.Array | None) -> Any:
    """Returns the sum of `function(micro_batch, key)` over the result of `cut_batch`, by a scan."""
    keys = None if key is None else jax.random.split(key, batches.label_BT.shape[0])

    def add(sums, slices):
        return jax.tree.map(jnp.add, sums, function(*slices)), None

    first = jax.tree.map(lambda array: array[0], (batches, keys))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function, *first))
    return jax.lax.scan(add, zeros, (batches, keys))[0]
