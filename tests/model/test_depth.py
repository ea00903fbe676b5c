"""Depth is a scan; rematerialization changes memory and communication, but no value."""
# SPDX-License-Identifier: Apache-2.0

import collections
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from gshard_mt.config.records import ModelConfig
from gshard_mt.model.blueprint import abstract_model
from gshard_mt.model.depth import scan_blocks, split_stack, stack_blocks
from gshard_mt.model.feed_forward import FeedForward
from gshard_mt.model.moe import training_groups
from gshard_mt.partitioning.mesh import build_mesh
from gshard_mt.partitioning.placement import sharding
from gshard_mt.train.step import sides
from tests.collectives import find_collectives
from tests.model import tiny

LENGTH, DEPTH = 16, 5
ROWS = [[tiny.sentence(2 * row, 6, 4), tiny.sentence(2 * row + 1, 7, 5)] for row in range(8)]
BATCH = tiny.pack(ROWS, LENGTH)


def make_config(remat: str):
    """An encoder of five blocks, with dropout, too few slots for all, a gate of few operations."""
    config = dataclasses.replace(tiny.MOE, num_layers=4 * DEPTH, ffn_dropout_rate=0.1, remat=remat)
    return tiny.with_moe(config, gate="hash", group_size=16, capacity_factor=1.0)


@functools.cache
def run(remat: str):
    """Value and gradients of a sum over the encoder's outputs, and the compiled program."""
    config, mesh = make_config(remat), build_mesh(1, 2, devices=jax.devices()[:2])
    blueprint = abstract_model(config, tiny.VOCAB_SIZES, mesh)

    def total(params, batch, key):
        source, _ = sides(batch)
        memory_BLM, sums = blueprint.build(params).encode(source, training_groups(config), key)
        value = jnp.mean(memory_BLM * jnp.cos(memory_BLM)) + jnp.sum(sums[0].aux_loss) / 100
        return value, sums

    params = jax.tree.map(
        lambda array, like: jax.device_put(np.asarray(array), like.sharding),
        tiny.make(make_config("none")).params,
        blueprint.params,
    )
    batch = jax.device_put(BATCH, sharding(mesh, "BL", 2))
    with jax.set_mesh(mesh):
        step = jax.jit(jax.value_and_grad(total, has_aux=True))
        compiled = step.lower(params, batch, jax.random.key(0)).compile()
        return jax.device_get(compiled(params, batch, jax.random.key(0))), compiled


@pytest.mark.parametrize("remat", ["full", "experts"])
def test_rematerialization_changes_no_value(remat):
    found, _ = run(remat)
    wanted, _ = run("none")
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * np.abs(other).max())


class Block(nnx.Module):
    """A stack's block of two layers that are quick to compile."""

    def __init__(self, keys):
        config = ModelConfig(ffn_dropout_rate=0.5, dtype="float32")
        self.remat = "none"
        self.layers = nnx.List(FeedForward(config, {"M": 6, "H": 7}, keys) for _ in range(2))


def unroll_blocks(stack, function, x, key, extra):
    """The slow reference for `scan_blocks`: a loop."""
    graphdef, params = nnx.split(stack)
    num_blocks = jax.tree.leaves(params)[0].shape[0]
    keys, blocks = jax.random.split(key, num_blocks), []
    for number in range(num_blocks):
        block = nnx.merge(graphdef, jax.tree.map(lambda array, n=number: array[n], params))
        outs = []
        layer_keys = jax.random.split(keys[number], len(block.layers))
        for layer, layer_key, values in zip(block.layers, layer_keys, extra, strict=True):
            x, out = function(layer, x, layer_key, values[number])
            outs.append(out)
        blocks.append(outs)
    return x, jax.tree.map(lambda *outs: jnp.stack(outs), *blocks)


def test_a_scan_is_a_loop_over_the_blocks():
    """Compares outputs, what the layers hand out, and gradients."""
    graphdef, shapes = split_stack(
        nnx.eval_shape(lambda: stack_blocks(Block, 3, jax.random.key(0)))
    )
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda like: rng.normal(size=like.shape).astype(np.float32), shapes)
    x_BLM = rng.normal(size=(2, 4, 6)).astype(np.float32)
    scales = [np.array([1.0, 2.0, 3.0], np.float32), np.array([0.5, 0.1, 0.2], np.float32)]

    def apply(layer, x_BLM, key, scale):
        y_BLM = layer(x_BLM, key)
        return jnp.sin(x_BLM + scale * y_BLM), jnp.sum(y_BLM)

    def total(params, x_BLM, loop):
        stack = nnx.merge(graphdef, params)
        x_BLM, outs = loop(stack, apply, x_BLM, jax.random.key(1), scales)
        return jnp.sum(x_BLM**2), (x_BLM, outs)

    step = jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True), static_argnums=2)
    found, wanted = (step(params, x_BLM, loop) for loop in (scan_blocks, unroll_blocks))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * np.abs(other).max())


def test_rematerialization_saves_memory():
    def measure(remat: str) -> int:
        memory = run(remat)[1].memory_analysis()
        assert memory
        return memory.temp_size_in_bytes

    none, full, experts = map(measure, ("none", "full", "experts"))
    assert full < experts < none
    assert full < 0.6 * none


@pytest.mark.parametrize(("remat", "num_all_to_alls"), [("none", 4), ("full", 6), ("experts", 4)])
def test_the_backward_pass_repeats_no_all_to_all_if_received_data_is_kept(remat, num_all_to_alls):
    _, compiled = run(remat)
    kinds = collections.Counter(kind for kind, _ in find_collectives(compiled.as_text()))
    assert kinds["all-to-all"] == num_all_to_alls
