"""What a run carries from step to step, and how it lies on the mesh."""
# SPDX-License-Identifier: Apache-2.0

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gshard_mt.config.records import Config
from gshard_mt.model.blueprint import Blueprint, abstract_model, init_params
from gshard_mt.train.optimizer import make_optimizer
from gshard_mt.train.watch import Watch, first_watch


class TrainState(NamedTuple):
    """A plain pytree: parameters are nested dicts by module name."""

    step: (
        Any  # an array; a shape with its sharding where nothing is computed yet: int32, steps done
    )
    params: Any
    optimizer: Any
    watch: Watch


def abstract_training(
    config: Config, vocab_sizes: tuple[int, int], mesh: Mesh
) -> tuple[Blueprint, optax.GradientTransformation, TrainState]:
    """Returns a run's model, its optimizer and its abstract state; nothing is computed."""
    blueprint = abstract_model(config.model, vocab_sizes, mesh, config.mesh.shard_parameters)
    optimizer = make_optimizer(config.train, blueprint.letters)
    return blueprint, optimizer, abstract_state(blueprint, optimizer)


def abstract_state(blueprint: Blueprint, optimizer: optax.GradientTransformation) -> TrainState:
    """The state's shapes, dtypes and shardings, as a TrainState."""
    replicated = NamedSharding(blueprint.mesh, PartitionSpec())
    step = jax.ShapeDtypeStruct((), jnp.int32, sharding=replicated)
    slots = jax.eval_shape(optimizer.init, blueprint.params)
    watch = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated),
        jax.eval_shape(first_watch),
    )
    slots = _place_like_params(slots, blueprint.params, blueprint.mesh)
    return TrainState(step, blueprint.params, slots, watch)


def initial_state(
    blueprint: Blueprint, optimizer: optax.GradientTransformation, seed: int
) -> TrainState:
    """Draws parameters from the seed, each shard on its own device from the start."""

    def init() -> TrainState:
        params = init_params(blueprint, seed)
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), first_watch())

    placed = jax.tree.map(lambda x: x.sharding, abstract_state(blueprint, optimizer))
    return jax.jit(init, out_shardings=placed)()


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
