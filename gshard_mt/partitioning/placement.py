"""How parameters and batches are sharded by their letters, and how parameters are fetched."""
# SPDX-License-Identifier: Apache-2.0

import functools
import math
from collections.abc import Mapping, Sequence

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gshard_mt.errors import ConfigError
from gshard_mt.partitioning.annotate import shard
from gshard_mt.partitioning.axes import ALPHABET, RULES, WHOLE, names, spec

Rules = Mapping[str, tuple[str, ...]]


def sharding(mesh: Mesh, letters: str, ndim: int, rules: Rules = RULES) -> NamedSharding:
    """Returns the sharding of an array whose last axes are `letters`; leading axes are not split.

    `""` is replicated.
    """
    if len(letters) > ndim:
        raise ValueError(f"{letters!r} names {len(letters)} axes, the array has {ndim}")
    entries = (None,) * (ndim - len(letters)) + spec(letters, mesh.axis_names, rules)
    return NamedSharding(mesh, PartitionSpec(*entries))


def check_shape(
    mesh_shape: Mapping[str, int], letters: str, shape: Sequence[int], rules: Rules = RULES
) -> None:
    """Raises ConfigError, naming the letter, for a parameter that the mesh can't split evenly."""
    tail = tuple(shape)[len(shape) - len(letters) :]
    for letter, entry, size in zip(letters, spec(letters, mesh_shape, rules), tail, strict=True):
        num_parts = math.prod(mesh_shape[name] for name in names(entry))
        if size % num_parts:
            keys = names(entry)
            grid = " x ".join(f"mesh.{name}={mesh_shape[name]}" for name in keys)
            raise ConfigError(
                f"config.mesh.{keys[0]}: found {grid}, accepted: what divides {letter}={size} "
                f"({ALPHABET[letter]}) of a parameter {letters} of shape {tuple(shape)}"
            )


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def fetch(array: jax.Array, letters: str) -> jax.Array:
    """Returns a parameter sharded by `RULES` to compute with, however it is stored.

    An all-gather if it is stored in more parts. The gradient is not annotated, so it takes the
    sharding of what it is added to: with `PARAMETER_RULES` a reduce-scatter.
    """
    return shard(array, "" if letters in WHOLE else letters)


fetch.defvjp(lambda array, letters: (fetch(array, letters), None), lambda letters, _, d: (d,))
