"""A model before its parameters exist: modules, shapes, and where each lies on the mesh."""
# SPDX-License-Identifier: Apache-2.0

from typing import Any, NamedTuple

import jax
from flax import nnx
from jax.sharding import Mesh

from gshard_mt.config.records import ModelConfig
from gshard_mt.model.moe_checks import gate_of
from gshard_mt.model.transformer import Transformer
from gshard_mt.partitioning.axes import letters_of, parameter_rules
from gshard_mt.partitioning.placement import check_shape, sharding
from gshard_mt.routing.gating import GATINGS


class Blueprint(NamedTuple):
    """A model without the values of its parameters, which are nested dicts by module name."""

    config: ModelConfig
    vocab_sizes: tuple[int, int]  # subwords of source and target
    mesh: Mesh
    graphdef: Any  # the modules without their parameters
    letters: Any  # a tree like the parameters: the axes each is sharded by
    params: Any  # a tree like the parameters: shapes, dtypes, shardings

    def build(self, params: Any) -> Transformer:
        """The model with these parameters, which may be tracers."""
        return nnx.merge(self.graphdef, params)


def abstract_model(
    config: ModelConfig, vocab_sizes: tuple[int, int], mesh: Mesh, shard_parameters: bool = False
) -> Blueprint:
    """Shapes everything, computes nothing. A parameter is sharded by the letters its name ends in.

    With `shard_parameters` (the config's `mesh.shard_parameters`) by `axes.PARAMETER_RULES`, which
    store it in as many parts as there are devices, else by `axes.RULES`.

    Raises ConfigError where the mesh does not divide an axis.
    """
    model = nnx.eval_shape(lambda: Transformer(config, vocab_sizes, nnx.Rngs(0)))
    graphdef, variables = nnx.split(model)
    shapes = nnx.to_pure_dict(variables)
    letters = jax.tree.map_with_path(lambda path, _: letters_of(path[-1].key), shapes)

    def place(path, shape, axes: str) -> jax.ShapeDtypeStruct:
        rules = parameter_rules(axes, shard_parameters)
        axes = "P" + axes if path[0].key in ("encoder", "decoder") else axes
        check_shape(mesh.shape, axes, shape.shape, rules)
        placed = sharding(mesh, axes, len(shape.shape), rules)
        return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=placed)

    params = jax.tree.map_with_path(place, shapes, letters)
    return Blueprint(config, vocab_sizes, mesh, graphdef, letters, params)


def init_params(blueprint: Blueprint, seed: int) -> Any:
    """Initial parameters; under jit with the blueprint's shardings no device holds them all."""
    rngs = nnx.Rngs(jax.random.key(seed))
    model = Transformer(blueprint.config, blueprint.vocab_sizes, rngs)
    return nnx.to_pure_dict(nnx.state(model))


def count_parameters(blueprint: Blueprint) -> tuple[int, int]:
    """Total parameters, and those that one token uses: the experts a gate sends it to."""
    moe = blueprint.config.moe
    total = active = 0
    for stack in blueprint.params:
        num_active = 1
        if stack in ("encoder", "decoder") and moe.num_experts:
            gating = GATINGS[gate_of(blueprint.config, is_decoder=stack == "decoder")]
            sizes = (moe.num_choices, moe.num_experts, moe.num_expert_groups)
            num_active = gating.max_experts(*sizes)
        leaves = jax.tree.leaves(blueprint.params[stack])
        for leaf, letters in zip(leaves, jax.tree.leaves(blueprint.letters[stack]), strict=True):
            total += leaf.size
            is_expert = letters.startswith("E")
            active += leaf.size // moe.num_experts * num_active if is_expert else leaf.size
    return total, active
