"""What a run carries from step to step, and how it lies on the mesh."""
# SPDX-License-Identifier: Apache-2.0

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gshard_mt.config.records import Config
from gshard_mt.model.blueprint import Blueprint, draw_params
from gshard_mt.model.transformer import Vocabulary
from gshard_mt.train.watch import Watch, first_watch


class TrainState(NamedTuple):
    """A plain pytree: parameters are nested dicts by module name."""

    step: (
        Any  # an array; a shape with its sharding where nothing is computed yet: int32, steps done
    )
    params: Any
    optimizer: Any
    watch: Watch


def shape_state(blueprint: Blueprint, optimizer: optax.GradientTransformation, mesh: Mesh):
    """The state's shapes, dtypes and shardings, as a TrainState."""
    replicated = NamedSharding(mesh, PartitionSpec())
    step = jax.ShapeDtypeStruct((), jnp.int32, sharding=replicated)
    slots = jax.eval_shape(optimizer.init, blueprint.params)
    watch = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated),
        jax.eval_shape(first_watch),
    )
    slots = _place_like_params(slots, blueprint.params, mesh)
    return TrainState(step, blueprint.params, slots, watch)


def initial_state(
    config: Config,
    vocabulary: Vocabulary,
    optimizer: optax.GradientTransformation,
    like: TrainState,
) -> TrainState:
    """Draws parameters from `train.seed`, each shard on its own device from the start."""

    def init() -> TrainState:
        params = draw_params(config.model, vocabulary, config.train.seed)
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), first_watch())

    return jax.jit(init, out_shardings=jax.tree.map(lambda x: x.sharding, like))()


def _place_like_params(slots: Any, params: Any, mesh: Mesh) -> Any:
    """Optimizer arrays lie as the parameter of the same names, as far as they share its axes.

    What belongs to no parameter (step counts) is replicated.
    """
    by_names = {_names(path): param for path, param in jax.tree.flatten_with_path(params)[0]}

    def place(path, slot):
        entries = [None] * slot.ndim
        param = by_names.get(_names(path))
        if param is not None:
            for axis, entry in enumerate(param.sharding.spec[: slot.ndim]):
                entries[axis] = entry if slot.shape[axis] == param.shape[axis] else None
        placed = NamedSharding(mesh, PartitionSpec(*entries))
        return jax.ShapeDtypeStruct(slot.shape, slot.dtype, sharding=placed)

    return jax.tree.map_with_path(place, slots)


def _names(path) -> tuple:
    return tuple(key.key for key in path if isinstance(key, jax.tree_util.DictKey))
