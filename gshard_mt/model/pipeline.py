"""Pipeline parallelism (GPipe): micro-batches flow through stages, each on its own devices."""
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gshard_mt.model.depth import REMATS, apply_block, split_stack
from gshard_mt.partitioning.annotate import num_parts, shard

# One program for all stages: at each tick every stage processes the micro-batch in its entry of the
# buffer, then the buffer shifts by one entry, a collective-permute. The micro-batch that enters at
# tick t is at stage s at tick t + s. A stage without one processes zeros that nobody reads (the
# bubble).


def pipe_blocks(stack: Any, function: Callable, x: jax.Array, context: Any, keys) -> jax.Array:
    """Threads every x[a] through `function(layer, x, key, *context) -> (x, None)` layer by layer.

    `x`, the leaves of `context` and `keys` (or None) have a leading axis of micro-batches. Returns
    what a scan over the blocks returns for each micro-batch, with the same random numbers. The
    parameters are split by depth over the mesh axis `stage` and stay; only micro-batches move.
    """
    graphdef, params = split_stack(stack)
    num_stages, num_blocks = num_parts("stage"), jax.tree.leaves(params)[0].shape[0]
    in_stages = (num_stages, num_blocks // num_stages)
    params = jax.tree.map(lambda p: p.reshape(*in_stages, *p.shape[1:]), params)
    key_type = None if keys is None else jax.random.key_impl(keys)

    def run_stage(params, stage, x, context, key_data):
        keys = None
        if key_data is not None:
            key = jax.random.wrap_key_data(key_data, impl=key_type)
            keys = jax.random.split(key, num_blocks).reshape(in_stages)[stage]
        apply = apply_block(graphdef, lambda layer, x, key: function(layer, x, key, *context))
        return jax.lax.scan(REMATS[stack.remat](apply), x, (params, keys, ()))[0]

    run_stages = jax.vmap(run_stage, spmd_axis_name="stage")
    stages = jnp.arange(num_stages)
    entering = (x, context, None if keys is None else jax.random.key_data(keys))

    def tick(buffer, arriving):
        def shift(old, new):
            is_first = (stages == 0).reshape(-1, *(1 for _ in new.shape))
            return jnp.where(is_first, new, jnp.roll(old, 1, axis=0))

        def constrain(array):
            return shard(array, "PBLM"[: array.ndim])

        x, context, key_data = jax.tree.map(shift, buffer, arriving)
        x, context = jax.tree.map(constrain, (x, context))
        x = constrain(run_stages(params, stages, x, context, key_data))
        return (x, context, key_data), x[-1]

    # Nothing enters while the last micro-batches leave.
    arriving = jax.tree.map(
        lambda a: jnp.pad(a, ((0, num_stages - 1), *((0, 0) for _ in a.shape[1:]))), entering
    )
    empty = jax.tree.map(lambda a: jnp.zeros((num_stages, *a.shape[1:]), a.dtype), entering)
    _, leaving = jax.lax.scan(tick, empty, arriving)
    return leaving[num_stages - 1 :]
