"""The training state: what is carried from step to step, and how it is sharded."""
# SPDX-License-Identifier: Apache-2.0

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gshard_mt.config.records import Config
from gshard_mt.model.blueprint import Blueprint, abstract_model, init_params
from gshard_mt.train.bad_steps import LossStatistics
from gshard_mt.train.optimizer import make_optimizer


class TrainState(NamedTuple):
    """A plain pytree: parameters are nested dicts by module name.

    Leaves are arrays, or in `abstract_state` shapes with their shardings.
    """

    step: Any  # int32: steps done
    params: Any
    opt_state: Any
    loss_statistics: LossStatistics


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
    opt_state = jax.eval_shape(optimizer.init, blueprint.params)
    opt_state = _shard_like_params(opt_state, blueprint.params, blueprint.mesh)
    statistics = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated),
        jax.eval_shape(LossStatistics.initial),
    )
    return TrainState(step, blueprint.params, opt_state, statistics)


def initial_state(
    blueprint: Blueprint, optimizer: optax.GradientTransformation, seed: int
) -> TrainState:
    """Initializes parameters from the seed, each shard on its own device from the start."""

    def init() -> TrainState:
        params, step = init_params(blueprint, seed), jnp.zeros((), jnp.int32)
        return TrainState(step, params, optimizer.init(params), LossStatistics.initial())

    shardings = jax.tree.map(lambda x: x.sharding, abstract_state(blueprint, optimizer))
    return jax.jit(init, out_shardings=shardings)()


def initial_opt_state(
    blueprint: Blueprint, optimizer: optax.GradientTransformation, params: Any
) -> Any:
    """The optimizer state of a run that begins with these parameters."""
    like = abstract_state(blueprint, optimizer).opt_state
    shardings = jax.tree.map(lambda x: x.sharding, like)
    return jax.jit(optimizer.init, out_shardings=shardings)(params)


def _shard_like_params(opt_state: Any, params: Any, mesh: Mesh) -> Any:
    """Shards optimizer arrays like the parameter of the same name, on the axes that both have.

    What belongs to no parameter (step counts) is replicated.
    """
    by_names = {_names(path): param for path, param in jax.tree.flatten_with_path(params)[0]}

    def shard(path, array):
        entries = [None] * array.ndim
        param = by_names.get(_names(path))
        if param is not None:
            for axis, entry in enumerate(param.sharding.spec[: array.ndim]):
                entries[axis] = entry if array.shape[axis] == param.shape[axis] else None
        sharding = NamedSharding(mesh, PartitionSpec(*entries))
        return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding)

    return jax.tree.map_with_path(shard, opt_state)


def _names(path) -> tuple:
    return tuple(key.key for key in path if isinstance(key, jax.tree_util.DictKey))
