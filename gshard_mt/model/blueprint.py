"""A model before its parameters exist: modules, shapes, and where each lies on the mesh."""
# SPDX-License-Identifier: Apache-2.0

from typing import Any, NamedTuple

import jax
from flax import nnx
from jax.sharding import Mesh

from gshard_mt.config import ModelConfig
from gshard_mt.model.transformer import Transformer, Vocabulary
from gshard_mt.partitioning.params import check_shape, sharding

GATE = "ME"  # the letters of the only parameter that has E but no expert owns


class Blueprint(NamedTuple):
    """Everything about the parameters but their values. They are nested dicts by module name."""

    graphdef: Any  # the modules without their parameters
    letters: Any  # a tree like the parameters: the axes each is sharded by
    params: Any  # a tree like the parameters: shapes, dtypes, shardings

    def build(self, params: Any) -> Transformer:
        """The model with these parameters, which may be tracers."""
        return nnx.merge(self.graphdef, params)


def draw_blueprint(config: ModelConfig, vocabulary: Vocabulary, mesh: Mesh) -> Blueprint:
    """Shapes everything, computes nothing. A parameter is sharded by the letters its name ends in.

    But for the gate, which the paper replicates: every device gates its own tokens.

    Raises ConfigError where the mesh does not divide an axis.
    """
    model = nnx.eval_shape(lambda: Transformer(config, vocabulary, nnx.Rngs(0)))
    graphdef, variables = nnx.split(model)
    shapes = nnx.to_pure_dict(variables)
    letters = jax.tree.map_with_path(lambda path, _: path[-1].key.rsplit("_", 1)[1], shapes)

    def place(shape, axes: str) -> jax.ShapeDtypeStruct:
        axes = "" if axes == GATE else axes
        check_shape(mesh.shape, axes, shape.shape)
        placed = sharding(mesh, axes, len(shape.shape))
        return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=placed)

    return Blueprint(graphdef, letters, jax.tree.map(place, shapes, letters))


def draw_params(config: ModelConfig, vocabulary: Vocabulary, seed: int) -> Any:
    """Initial parameters; under jit with the blueprint's shardings no device holds them all."""
    rngs = nnx.Rngs(jax.random.key(seed))
    return nnx.to_pure_dict(nnx.state(Transformer(config, vocabulary, rngs)))


def count_parameters(config: ModelConfig, blueprint: Blueprint) -> tuple[int, int]:
    """Total parameters, and those that one token uses: of an MoE layer, two experts."""
    total = active = 0
    leaves = zip(jax.tree.leaves(blueprint.params), jax.tree.leaves(blueprint.letters), strict=True)
    for leaf, letters in leaves:
        num_experts = config.num_experts if letters.startswith("E") else 1
        total += leaf.size
        active += leaf.size // num_experts * min(num_experts, 2)
    return total, active
