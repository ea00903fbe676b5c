"""Pruned parameters: a layer's arrays without the experts that are dropped.

The gate of the smaller layer gives the tokens of a dropped expert to the best one that is left.
With a `MaskedGate` a layer of the same size does the same, so that one program serves any choice.
"""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import DictKey, register_pytree_with_keys_class

from gshard_mt.partitioning.axes import letters_of

Kept = Mapping[str, Sequence[int]]  # `encoder.layers.2` -> the numbers of the experts that stay

_STACKS = ("encoder", "decoder")
_GATE = "wg_ME"  # the parameter whose product with a token is its logits
_NEVER = -1e9  # a logit that loses against any other


@register_pytree_with_keys_class
@dataclasses.dataclass(frozen=True)
class MaskedGate:
    """A gate's matrix in the place of an array; `is_kept_E` is false for experts left out.

    Both may have a leading axis, that of depth.
    """

    w_ME: jax.Array
    is_kept_E: jax.Array

    def __getitem__(self, index: Any) -> "MaskedGate":
        """Returns the gate itself, as an array does for `...`."""
        assert index is ...
        return self

    def tree_flatten_with_keys(self):
        """Returns both arrays under names that end in their letters, as parameters have them."""
        return ((DictKey("w_ME"), self.w_ME), (DictKey("is_kept_E"), self.is_kept_E)), None

    @classmethod
    def tree_unflatten(cls, _, children: tuple[Any, Any]) -> "MaskedGate":
        return cls(*children)


def gate_product(x_GSM: jax.Array, w: jax.Array | MaskedGate) -> jax.Array:
    """Returns the product with a gate's matrix in full precision."""
    if isinstance(w, MaskedGate):
        y_GSE = gate_product(x_GSM, w.w_ME)
        return jnp.where(w.is_kept_E, y_GSE, _NEVER)
    return jnp.matmul(x_GSM, w, precision="highest")


def prune_array(name: str, array: np.ndarray, kept: Kept) -> np.ndarray:
    """Returns one array of the layout (`encoder.layers.2.feed_forward.wi_EMH`) without them."""
    layer = ".".join(name.split(".")[:3])
    if layer not in kept or "E" not in (letters := letters_of(name)):
        return array
    return array.take(np.array(kept[layer]), axis=letters.index("E"))


def prune_params(params: Any, kept: Kept) -> Any:
    """Returns a model's parameters without them; every layer keeps the same number."""

    def prune(path: tuple, array: jax.Array) -> jax.Array:
        if not _is_of_experts(path):
            return array
        axis = letters_of(path[-1].key).index("E")
        numbers_PE = jnp.array([kept[layer] for layer in _layers(params, path)])
        return jax.vmap(lambda block, numbers_E: jnp.take(block, numbers_E, axis))(
            array, numbers_PE
        )

    return jax.tree.map_with_path(prune, params)


def mask_gates(params: Any, kept: Kept, num_experts: int) -> Any:
    """Returns a model's parameters with gates that choose only these experts."""

    def mask(path: tuple, array: jax.Array) -> Any:
        if not _is_of_experts(path) or path[-1].key != _GATE:
            return array
        is_kept_PE = np.zeros((len(array), num_experts), bool)
        for block, layer in enumerate(_layers(params, path)):
            is_kept_PE[block, list(kept[layer])] = True
        return MaskedGate(array, jnp.array(is_kept_PE))

    return jax.tree.map_with_path(mask, params)


def _is_of_experts(path: tuple) -> bool:
    return path[0].key in _STACKS and "E" in letters_of(path[-1].key)


def _layers(params: Any, path: tuple) -> list[str]:
    """Returns the names of the layers that a parameter of a stack belongs to, block by block."""
    stack, layer, layers = path[0].key, int(path[2].key), params[path[0].key]["layers"]
    num_blocks = len(jax.tree.leaves(layers)[0])
    return [f"{stack}.layers.{block * len(layers) + layer}" for block in range(num_blocks)]
