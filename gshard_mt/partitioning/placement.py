"""Where parameters live: the sharding of a leaf by its letters, putting it there, using it."""
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
    """Returns the sharding of a leaf whose last axes are `letters`; axes in front are not split.

    `""` is replicated: the gate, and everything else that the rules have nothing to say of.
    """
    if len(letters) > ndim:
        raise ValueError(f"{letters!r} names {len(letters)} axes, the array has {ndim}")
    entries = (None,) * (ndim - len(letters)) + spec(letters, mesh.axis_names, rules)
    return NamedSharding(mesh, PartitionSpec(*entries))


def check_shape(
    mesh_shape: Mapping[str, int], letters: str, shape: Sequence[int], rules: Rules = RULES
) -> None:
    """Refuses a leaf that the mesh can't split evenly: ConfigError that names the letters."""
    tail = tuple(shape)[len(shape) - len(letters) :]
    for letter, entry, size in zip(letters, spec(letters, mesh_shape, rules), tail, strict=True):
        num_parts = math.prod(mesh_shape[name] for name in names(entry))
        if size % num_parts:
            grid = " x ".join(f"mesh.{name} = {mesh_shape[name]}" for name in names(entry))
            raise ConfigError(
                f"{grid}: doesn't divide {letter} = {size} ({ALPHABET[letter]}) of a parameter "
                f"{letters} of shape {tuple(shape)}"
            )


def place(array: jax.Array, letters: str, mesh: Mesh) -> jax.Array:
    """Returns `array` on the devices of `mesh`, cut by its letters, after `check_shape`.

    In a run of many processes each of them passes the same values.
    """
    check_shape(mesh.shape, letters, array.shape)
    return jax.device_put(array, sharding(mesh, letters, array.ndim))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def fetch(array: jax.Array, letters: str) -> jax.Array:
    """Returns a parameter as `RULES` have it, to compute with, however it is stored.

    Where it is stored in more parts than that, an all-gather. Nothing is said of its gradient,
    which then goes to where it is added: with `PARAMETER_RULES` reduced and cut.
    """
    return shard(array, "" if letters in WHOLE else letters)


fetch.defvjp(lambda array, letters: (fetch(array, letters), None), lambda letters, _, d: (d,))
