"""Mapping: the parameters of one model as the first ones of a larger one, or of other subwords."""
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gshard_mt.config.records import InitConfig
from gshard_mt.partitioning.axes import letters_of

_STACKS = ("encoder", "decoder")
# The table of each side's subwords, and the one that stands for it in a model that ties them.
_TABLES = {
    "source_embedding_VM": ("source", "target_embedding_VM"),
    "target_embedding_VM": ("target", "target_embedding_VM"),
    "softmax_VM": ("target", "target_embedding_VM"),
}


class PieceMap(NamedTuple):
    """For each new subword the old ones whose mean it begins as."""

    id_VK: Any  # int32; the K-th of a subword with fewer has weight 0
    weight_VK: Any  # float32; they add up to 1


def map_params(
    old: Any, fresh: Any, pieces: Mapping[str, PieceMap], init: InitConfig, key: jax.Array
) -> Any:
    """Returns parameters for a new model, made of an old one's and, where it has none, fresh ones.

    `pieces` are of the sides, `source` and `target`, whose subwords differ. What can't be mapped
    comes back as it is in the old model: the caller compares names and shapes with the fresh ones.

    Exact, which means that both models compute the same, are: equal sizes; a dense model with
    experts that are copies (top2 and other gates whose weights add up to 1, nothing dropped); added
    layers that start as the identity. Not exact: several copies of an expert, noise, repeated
    layers, other subwords.
    """
    new = dict(old)
    for name, table in _TABLES.items():
        if name in fresh:
            side, tied = table
            new[name] = _map_table(old.get(name, old[tied]), pieces.get(side))
    for number, stack in enumerate(_STACKS):
        stack_key = jax.random.fold_in(key, number)
        new[stack] = _map_stack(old[stack], fresh[stack], init, stack_key)
    return new


def _map_table(old_VM: jax.Array, pieces: PieceMap | None) -> jax.Array:
    if pieces is None:
        return old_VM
    return jnp.einsum("VKM,VK->VM", old_VM[pieces.id_VK], pieces.weight_VK, precision="highest")


def _map_stack(old: Any, fresh: Any, init: InitConfig, key: jax.Array) -> Any:
    """Maps layer by layer. Those of a block of the old stack stay together."""
    old_layers, fresh_layers = _layers(old), _layers(fresh)
    size, new_size = len(old["layers"]), len(fresh["layers"])
    num_old, num_new = len(old_layers) // size, len(fresh_layers) // size
    if size > new_size or num_new < num_old:
        return old
    layers = []
    for index, fresh_layer in enumerate(fresh_layers):
        block, place = divmod(index, size)
        source = block * num_old // num_new
        layer_key = jax.random.fold_in(key, index)
        layer = _map_layer(old_layers[source * size + place], fresh_layer, init, layer_key)
        is_added = block > 0 and (block - 1) * num_old // num_new == source
        if is_added and init.added_layers == "identity":
            layer = jax.tree.map_with_path(_without_output, layer)
        layers.append(layer)
    stacked = {
        name: jax.tree.map(lambda *parts: jnp.stack(parts), *layers[place::new_size])
        for place, name in enumerate(_names(fresh))
    }
    return {**old, "layers": stacked}


def _names(stack: Any) -> list:
    return sorted(stack["layers"], key=int)


def _layers(stack: Any) -> list[Any]:
    """Returns the layers of a stack in their order, without the axis P."""
    blocks = [stack["layers"][name] for name in _names(stack)]
    num_blocks = jax.tree.leaves(blocks)[0].shape[0]
    return [
        jax.tree.map(lambda array, block=block: array[block], layer)
        for block in range(num_blocks)
        for layer in blocks
    ]


def _map_layer(old: Any, fresh: Any, init: InitConfig, key: jax.Array) -> Any:
    experts, fresh_experts = old["feed_forward"], fresh["feed_forward"]
    if "wi_EMH" not in fresh_experts:
        return old
    mapped = (
        _repeat_experts(experts, fresh_experts, init, key)
        if "wi_EMH" in experts
        else _copy_to_experts(experts, fresh_experts, init, key)
    )
    return {**old, "feed_forward": mapped}


def _copy_to_experts(dense: Any, fresh: Any, init: InitConfig, key: jax.Array) -> Any:
    """Makes every expert a copy of a dense feed-forward; the gate is new ("sparse upcycling").

    With `init.reset_share`, this share of an expert's hidden units begins again, at random with the
    mean and deviation of the weights (Drop-Upcycling, Nakamura et al. 2025).
    """
    num_experts, _, hidden = fresh["wi_EMH"].shape
    keys = jax.random.split(key, 4)
    wi_EMH = jnp.tile(dense["wi_MH"], (num_experts, 1, 1))
    wo_EHM = jnp.tile(dense["wo_HM"], (num_experts, 1, 1))
    if init.reset_share:
        reset_EH = jax.random.uniform(keys[0], (num_experts, hidden)) < init.reset_share
        wi_EMH = jnp.where(reset_EH[:, None, :], _like(wi_EMH, keys[1]), wi_EMH)
        wo_EHM = jnp.where(reset_EH[:, :, None], _like(wo_EHM, keys[2]), wo_EHM)
    experts = {"wi_EMH": wi_EMH, "wo_EHM": wo_EHM}
    if init.expert_noise:
        experts = _with_noise(experts, init.expert_noise, keys[3], 1)
    if "shared_expert" in fresh:  # adds nothing at first
        shared = jax.tree.map_with_path(_without_output, fresh["shared_expert"])
        experts["shared_expert"] = shared
    return {**fresh, **experts}


def _repeat_experts(old: Any, fresh: Any, init: InitConfig, key: jax.Array) -> Any:
    """Follows each expert by its copies, with the same columns of the gate."""
    num_copies = max(1, fresh["wi_EMH"].shape[0] // old["wi_EMH"].shape[0])
    new = dict(old)
    for name, array in old.items():
        if "E" in (letters := letters_of(name)):
            new[name] = jnp.repeat(array, num_copies, axis=letters.index("E"))
    if num_copies > 1 and init.expert_noise:
        experts = {name: new[name] for name in ("wi_EMH", "wo_EHM")}
        new |= _with_noise(experts, init.expert_noise, key, num_copies)
    return new


def _with_noise(experts: Any, noise: float, key: jax.Array, num_copies: int) -> Any:
    """Adds noise to all experts but the first of several copies."""
    is_copy_E = jnp.arange(experts["wi_EMH"].shape[0]) % num_copies > 0
    scale_E = jnp.where(is_copy_E | (num_copies == 1), noise, 0.0)
    keys = jax.random.split(key, len(experts))
    return {
        name: array
        + scale_E[:, None, None] * jnp.std(array) * jax.random.normal(keys[number], array.shape)
        for number, (name, array) in enumerate(experts.items())
    }


def _like(array: jax.Array, key: jax.Array) -> jax.Array:
    return jnp.mean(array) + jnp.std(array) * jax.random.normal(key, array.shape)


def _without_output(path: tuple, array: jax.Array) -> jax.Array:
    """Zeroes the weights whose product is added to the residual stream."""
    return jnp.zeros_like(array) if path[-1].key.startswith("wo_") else array
