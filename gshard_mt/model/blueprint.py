"""A model before its parameters exist: modules, shapes, and the sharding of each parameter."""
# SPDX-License-Identifier: Apache-2.0

from typing import Any, NamedTuple

import jax
from flax import nnx
from jax.sharding import Mesh

from gshard_mt.config.records import ModelConfig
from gshard_mt.model.layers import key_stream
from gshard_mt.model.quantized import quantize_params
from gshard_mt.model.transformer import Transformer
from gshard_mt.partitioning.axes import letters_of, parameter_rules
from gshard_mt.partitioning.placement import check_shape, sharding
from gshard_mt.routing.strategies import STRATEGIES


class Blueprint(NamedTuple):
    """A model without the values of its parameters, which are nested dicts by module name."""

    config: ModelConfig
    vocab_sizes: tuple[int, int]  # subwords of source and target
    mesh: Mesh
    graphdef: Any  # the modules without their parameters
    letters: Any  # a tree like the parameters: the axes of each
    params: Any  # a tree like the parameters: shapes, dtypes, shardings

    def build(self, params: Any) -> Transformer:
        """The model with these parameters, which may be tracers."""
        return nnx.merge(self.graphdef, params)


def abstract_model(
    config: ModelConfig,
    vocab_sizes: tuple[int, int],
    mesh: Mesh,
    shard_parameters: bool = False,
    quantized: bool = False,
) -> Blueprint:
    """Determines all shapes and shardings without computing anything.

    A parameter is sharded by the letters at the end of its name: by `axes.RULES`, or with
    `shard_parameters` (the config's `mesh.shard_parameters`) by `axes.PARAMETER_RULES`, which
    store it in as many parts as there are devices. Raises ConfigError where the mesh does not
    divide an axis. A quantized model has weights of 8 bits, which can't be trained.
    """
    model = nnx.eval_shape(lambda: Transformer(config, vocab_sizes, key_stream(jax.random.key(0))))
    graphdef, variables = nnx.split(model)
    shapes = nnx.to_pure_dict(variables)
    if quantized:
        shapes = jax.eval_shape(quantize_params, shapes)
    letters = jax.tree.map_with_path(lambda path, _: letters_of(path[-1].key), shapes)

    def add_sharding(path, shape, axes: str) -> jax.ShapeDtypeStruct:
        rules = parameter_rules(axes, shard_parameters)
        axes = "P" + axes if path[0].key in ("encoder", "decoder") else axes
        check_shape(mesh.shape, axes, shape.shape, rules)
        sharded = sharding(mesh, axes, len(shape.shape), rules)
        return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharded)

    params = jax.tree.map_with_path(add_sharding, shapes, letters)
    return Blueprint(config, vocab_sizes, mesh, graphdef, letters, params)


def init_params(blueprint: Blueprint, seed: int) -> Any:
    """Initial parameters; jitted with the blueprint's shardings, no device holds all of them."""
    keys = key_stream(jax.random.key(seed))
    model = Transformer(blueprint.config, blueprint.vocab_sizes, keys)
    return nnx.to_pure_dict(nnx.state(model))


def experts_per_token(config: ModelConfig, is_decoder: bool) -> int:
    """The most experts that a stack's gate chooses for one token."""
    sizes = (config.moe.num_choices, config.moe.num_experts, config.moe.num_expert_groups)
    return STRATEGIES[config.moe.gate_of(is_decoder)].max_experts(*sizes)


def count_parameters(blueprint: Blueprint) -> tuple[int, int]:
    """Returns the number of parameters, and of those that one token uses."""
    num_experts = blueprint.config.moe.num_experts
    total = active = 0
    for stack in blueprint.params:
        leaves = jax.tree.leaves(blueprint.params[stack])
        for leaf, letters in zip(leaves, jax.tree.leaves(blueprint.letters[stack]), strict=True):
            total += leaf.size
            num_active = leaf.size
            if letters.startswith("E"):
                num_chosen = experts_per_token(blueprint.config, is_decoder=stack == "decoder")
                num_active = leaf.size // num_experts * num_chosen
            active += num_active
    return total, active
