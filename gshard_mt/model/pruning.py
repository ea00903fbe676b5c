"""Pruned parameters: a layer's arrays without the experts that are dropped.

The gate of the smaller layer gives the tokens of a dropped expert to the best one that is left.
"""
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gshard_mt.partitioning.axes import letters_of

Kept = Mapping[str, Sequence[int]]  # `encoder.layers.2` -> the numbers of the experts that stay

_STACKS = ("encoder", "decoder")


def prune_array(name: str, array: np.ndarray, kept: Kept) -> np.ndarray:
    """Returns one array of the layout (`encoder.layers.2.feed_forward.wi_EMH`) without them."""
    layer = ".".join(name.split(".")[:3])
    if layer not in kept or "E" not in (letters := letters_of(name)):
        return array
    return array.take(np.array(kept[layer]), axis=letters.index("E"))


def prune_params(params: Any, kept: Kept) -> Any:
    """Returns a model's parameters without them; every layer keeps the same number."""

    def prune(path: tuple, array: jax.Array) -> jax.Array:
        keys = [entry.key for entry in path]
        if keys[0] not in _STACKS or "E" not in (letters := letters_of(keys[-1])):
            return array
        stack, layer = keys[0], int(keys[2])
        num_layers = len(params[stack]["layers"])
        numbers_PE = jnp.array(
            [kept[f"{stack}.layers.{block * num_layers + layer}"] for block in range(len(array))]
        )
        axis = letters.index("E")
        return jax.vmap(lambda block, numbers_E: jnp.take(block, numbers_E, axis))(
            array, numbers_PE
        )

    return jax.tree.map_with_path(prune, params)
