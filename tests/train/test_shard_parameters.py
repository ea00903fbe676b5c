"""Fully sharded parameters: the same steps, an eighth of the bytes, no expert gathered."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gshard_mt.config.records import Config
from gshard_mt.errors import ConfigError
from gshard_mt.model.blueprint import abstract_model
from gshard_mt.partitioning.axes import PARAMETER_RULES
from gshard_mt.partitioning.mesh import build_mesh
from gshard_mt.partitioning.placement import fetch, sharding
from gshard_mt.train.optimizer import make_optimizer
from gshard_mt.train.state import abstract_state
from tests.collectives import find_collectives
from tests.model import tiny
from tests.train.one_step import assert_equal, lower

LENGTH = 16
BATCH = tiny.pack(
    [[tiny.sentence(row, 6, 9), tiny.sentence(row, 7, 4)] for row in range(8)], LENGTH
)


def make_config(shard_parameters: bool) -> Config:
    """With dropout, random second experts and too few slots; weights differ in size.

    Only the sharded ones are fetched again in the backward pass.
    """
    config = Config()
    config.model = dataclasses.replace(
        tiny.with_moe(tiny.MOE, num_experts=8, group_size=16, capacity_factor=1.5),
        num_layers=8,
        dropout_rate=0.1,
        remat="full" if shard_parameters else "none",
    )
    config.mesh.shard_parameters = shard_parameters
    return config


@functools.cache
def run(shape: tuple[int, ...], shard_parameters: bool):
    """Returns gradient, sums and new parameters, and the compiled program."""
    mesh = build_mesh(*shape, devices=jax.devices()[: int(np.prod(shape))])
    lowered, arguments = lower(make_config(shard_parameters), mesh, BATCH, jax.random.key(0))
    compiled = lowered.compile()
    return jax.device_get(compiled(*arguments)), compiled


def test_sharded_parameters_take_the_step_of_whole_ones():
    assert_equal(run((2, 2, 2), True)[0], run((1, 1), False)[0])


def test_dense_weights_are_gathered_block_by_block_and_an_expert_only_over_data():
    compiled = run((2, 2, 2), True)[1]
    gathered = {size for kind, size in find_collectives(compiled.as_text()) if kind == "all-gather"}
    model = make_config(True).model
    # Of the heads and hidden units a device has half, of the experts a quarter.
    attention = model.model_dim * model.num_heads * model.head_dim // 2
    feed_forward = model.model_dim * model.ffn_dim // 2
    assert {attention, feed_forward} <= gathered
    experts = {feed_forward * model.moe.num_experts // 2}
    # Rows of a table are shared by two devices, after one of padding if there is an odd number.
    tables = {rows * model.model_dim for size in tiny.VOCAB_SIZES for rows in (size, size + 1)}
    ids = {BATCH.source_BL.size // 2}
    assert gathered <= {attention, feed_forward} | ids | experts | tables
    # The gradient is sharded like the parameters.
    gradient = jax.tree.leaves(run((2, 2, 2), True)[0][0])
    stored = jax.tree.leaves(compiled.input_shardings[0][0])
    found = jax.tree.leaves(compiled.output_shardings[0])
    for array, one, other in zip(gradient, found, stored, strict=True):
        assert one.is_equivalent_to(other, array.ndim)


@pytest.mark.parametrize("optimizer", ["adafactor", "adamw"])
def test_a_device_holds_an_eighth_of_parameters_and_optimizer_state(optimizer):
    config = Config(model=dataclasses.replace(tiny.MOE, model_dim=256, ffn_dim=264))
    config.train.optimizer = optimizer
    mesh = build_mesh(2, 4)

    def measure(shard_parameters: bool) -> tuple[int, int]:
        blueprint = abstract_model(config.model, tiny.VOCAB_SIZES, mesh, shard_parameters)
        like = abstract_state(blueprint, make_optimizer(config.train, blueprint.letters))
        leaves = jax.tree.leaves((like.params, like.opt_state))
        parts = [x.sharding.shard_shape(x.shape) for x in leaves]
        return sum(int(np.prod(part)) for part in parts), sum(x.size for x in leaves)

    (part, total), (whole_part, _) = measure(True), measure(False)
    assert part < 1.1 * total / 8  # norms, gates and sums over the width are not sharded
    assert whole_part > 2 * total / 8


def test_a_fetched_parameter_is_sharded_by_the_rules_and_its_gradient_is_unchanged():
    mesh = build_mesh(2, 4)
    w_EMH = jnp.arange(8 * 16 * 24, dtype=jnp.float32).reshape(8, 16, 24)
    stored = jax.device_put(w_EMH, sharding(mesh, "EMH", 3, PARAMETER_RULES))
    with jax.set_mesh(mesh):
        found = jax.jit(lambda w_EMH: fetch(w_EMH, "EMH"))(stored)
        gradient = jax.jit(jax.grad(lambda w_EMH: jnp.sum(jnp.square(fetch(w_EMH, "EMH")))))(stored)
    assert stored.sharding.shard_shape(stored.shape) == (2, 8, 24)
    assert found.sharding.shard_shape(found.shape) == (2, 16, 24)
    np.testing.assert_array_equal(found, w_EMH)
    np.testing.assert_array_equal(gradient, 2 * w_EMH)


def test_a_width_that_the_mesh_does_not_divide_is_refused():
    config = dataclasses.replace(tiny.MOE, model_dim=12)
    abstract_model(config, tiny.VOCAB_SIZES, build_mesh(2, 4))
    message = r"^config.mesh.data: found mesh.data=2 x mesh.expert=4, .* M=12 \(model width\)"
    with pytest.raises(ConfigError, match=message):
        abstract_model(config, tiny.VOCAB_SIZES, build_mesh(2, 4), shard_parameters=True)
