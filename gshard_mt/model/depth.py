"""Depth: blocks stacked on a leading axis, scanned, and recomputed in the backward pass."""
# SPDX-License-Identifier: Apache-2.0

import functools
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from gshard_mt.model.layers import Keys, key_stream, split_key
from gshard_mt.partitioning.axes import letters_of
from gshard_mt.partitioning.placement import fetch

KEPT = "kept"  # the checkpoint name of arrays that `model.remat=experts` saves


def keep(x: jax.Array) -> jax.Array:
    """Marks data received from other devices: `model.remat=experts` does not transfer it twice."""
    return checkpoint_name(x, KEPT)


# What is saved of a block's forward pass for its backward pass. In a scan, recomputed values cannot
# be merged with the first ones, so the barriers of `prevent_cse` are not needed.
_checkpoint = functools.partial(jax.checkpoint, prevent_cse=False)
REMATS: dict[str, Callable[[Callable], Callable]] = {
    "none": lambda apply: apply,  # everything
    "full": _checkpoint,  # the block's input
    "experts": functools.partial(
        _checkpoint, policy=jax.checkpoint_policies.save_only_these_names(KEPT)
    ),
}


def stack_blocks(make: Callable[[Keys], Any], num_blocks: int, key: jax.Array) -> Any:
    """Stacks `num_blocks` blocks: every parameter gets a leading axis P, the depth."""
    modules = []

    def make_parameters(key: jax.Array) -> Any:
        graphdef, params = nnx.split(make(key_stream(key)))
        modules.append(graphdef)
        return params

    params = jax.vmap(make_parameters)(jax.random.split(key, num_blocks))
    return nnx.merge(modules[0], params)


def scan_blocks(stack: Any, function: Callable, x: Any, key, *extra) -> tuple[Any, list]:
    """Threads x through `function(layer, x, key, *extra of the layer) -> (x, out)`.

    One program for any depth: a scan over the leading axis P of the parameters and of `extra`,
    whose items have one entry per layer of a block. Returns x and, for each layer of a block, its
    outs stacked over P. `stack.remat` selects what the backward pass recomputes; values and
    gradients do not depend on it.
    """
    graphdef, params = split_stack(stack)
    num_blocks = jax.tree.leaves(params)[0].shape[0]
    keys = None if key is None else jax.random.split(key, num_blocks)
    apply = apply_block(graphdef, function)
    return jax.lax.scan(REMATS[stack.remat](apply), x, (params, keys, extra))


def split_stack(stack: Any) -> tuple[Any, Any]:
    """The modules of a stack without parameters, and the parameters as nested dicts by name."""
    graphdef, variables = nnx.split(stack)
    return graphdef, nnx.to_pure_dict(variables)


def apply_block(graphdef: Any, function: Callable) -> Callable:
    """The body of the scan: `(x, (parameters, key, extra) of a block) -> (x, outs)`."""

    def apply(x, slices):
        block_params, block_key, block_extra = slices
        block = nnx.merge(graphdef, jax.tree.map_with_path(_fetch, block_params))
        layer_keys = split_key(block_key, len(block.layers))
        outs = []
        for index, layer in enumerate(block.layers):
            x, out = function(layer, x, layer_keys[index], *(e[index] for e in block_extra))
            outs.append(out)
        return x, outs

    return apply


def _fetch(path, param: jax.Array) -> jax.Array:
    return fetch(param, letters_of(path[-1].key))
