"""One step as a function of parameters, batch and key, to compare meshes and settings."""
# SPDX-License-Identifier: Apache-2.0

import jax
import numpy as np
import optax

from gshard_mt.config.records import Config
from gshard_mt.data.batches import Batch
from gshard_mt.model.blueprint import abstract_model
from gshard_mt.partitioning.placement import sharding
from gshard_mt.train.optimizer import make_optimizer
from gshard_mt.train.step import make_gradient
from tests.model import tiny


def lower(config: Config, mesh, batch: Batch, key, num_pairs: int = 1, is_updated: bool = True):
    """The lowered `(params, batch, key) -> gradient, sums, new params`, and its arguments.

    Without `is_updated` there are no new parameters: the optimizer is a third of the program.
    """
    blueprint = abstract_model(config.model, tiny.VOCAB_SIZES, mesh, config.mesh.shard_parameters)
    optimizer = make_optimizer(config.train, blueprint.letters)
    differentiate = make_gradient(blueprint, config.train, num_pairs)

    def step(params, batch, key):
        gradient, sums = differentiate(params, batch, key)
        if not is_updated:
            return gradient, sums
        updates, _ = optimizer.update(gradient, optimizer.init(params), params)
        return gradient, sums, optax.apply_updates(params, updates)

    params = jax.tree.map(
        lambda array, like: jax.device_put(np.asarray(array), like.sharding),
        tiny.make(config.model).params,
        blueprint.params,
    )
    arguments = params, jax.device_put(batch, sharding(mesh, "BL", 2)), key
    with jax.set_mesh(mesh):
        return jax.jit(step).lower(*arguments), arguments


def assert_equal(found, wanted) -> None:
    """Integers are equal; all else agrees to 1e-5 of the largest value of its array."""
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        if np.issubdtype(other.dtype, np.integer):
            np.testing.assert_array_equal(one, other)
        else:
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * np.abs(other).max())
