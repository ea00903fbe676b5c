"""Experts on several devices without capacity: tokens travel to them in rounds of bounded size."""
# SPDX-License-Identifier: Apache-2.0

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gshard_mt.model.depth import keep
from gshard_mt.partitioning.collectives import mesh_exchange, mesh_index, mesh_max, mesh_size
from gshard_mt.routing.dropless import SortedChoices, round_tables, sort_choices
from gshard_mt.routing.gathers import permute_tokens, unpermute_outputs

_ROOM = 1.5  # rows that a round has for each device, as a multiple of their mean

# (x_SM, expert_SK of this device's own, weight_SK, weights, key) -> the weighted sums, [S, M]
Experts = Callable[[jax.Array, jax.Array, jax.Array, Any, jax.Array | None], jax.Array]


class _Choices(NamedTuple):
    """The integers that rounds depend on; they have no gradient."""

    expert_SK: jax.Array
    sorted: SortedChoices
    key: jax.Array | None


def apply_experts(experts: Experts, x_SM, expert_SK, weight_SK, weights: Any, key) -> jax.Array:
    """Returns each token's weighted sum over its experts [S, M], whichever device has them.

    It runs inside `map_shards`. Each device has tokens and the weights of some experts. In a round,
    each sends every other the same number of rows, empty ones included, and gets as many outputs
    back: a device's memory and what it sends depend on its own tokens, not on the number of
    devices. The first round has room for 1.5 times the mean; more are made until no device has rows
    left.
    """
    num_devices, num_experts = mesh_size("E"), weights[0].shape[0]
    key = key if key is None else jax.random.fold_in(key, mesh_index("EH"))
    if num_devices == 1:
        return experts(x_SM, expert_SK, weight_SK, weights, key)
    found = sort_choices(expert_SK, weight_SK > 0, num_devices * num_experts)
    mean = -(-expert_SK.size // num_devices)
    room = min(expert_SK.size, -(-int(_ROOM * mean) // 8) * 8)
    most = jnp.max(found.size_E.reshape(num_devices, -1).sum(axis=1))
    num_rounds = mesh_max(-(-most // room), "E")
    run = functools.partial(_run_round, experts, num_experts, room)
    floats, choices = (x_SM, weight_SK, weights), _Choices(expert_SK, found, key)
    if key is None:  # not in training, where the first round's backward pass needs its values
        return _rounds(run, (0, num_rounds), floats, choices)  # type: ignore[return-value]
    later_SM: jax.Array = _rounds(run, (1, num_rounds), floats, choices)  # type: ignore[assignment]
    return run(0, floats, choices) + later_SM


def _run_round(
    experts: Experts, num_experts: int, room: int, number: int | jax.Array, floats, choices
) -> jax.Array:
    x_SM, weight_SK, weights = floats
    num_devices = choices.sorted.size_E.size // num_experts
    size_I = choices.sorted.size_E.reshape(num_devices, -1).sum(axis=1)
    tables = round_tables(choices.sorted, size_I, room, number)
    is_empty = jnp.iinfo(jnp.int32).max  # no device has this expert
    expert_R = (
        choices.expert_SK.reshape(-1).at[tables.choice_R].get(mode="fill", fill_value=is_empty)
    )
    expert_R = keep(mesh_exchange(expert_R, "E")) - mesh_index("E") * num_experts
    gathers = (tables.row_SK[None], tables.choice_R[None])
    x_RM = keep(mesh_exchange(permute_tokens(x_SM[None], *gathers)[0], "E"))
    one_R1 = jnp.ones((expert_R.size, 1))
    key = choices.key if choices.key is None else jax.random.fold_in(choices.key, number)
    y_RM = experts(x_RM, expert_R[:, None], one_R1, weights, key).astype(x_SM.dtype)
    y_RM = keep(mesh_exchange(y_RM, "E"))
    return unpermute_outputs(y_RM[None].astype(jnp.float32), weight_SK[None], *gathers)[0]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _rounds(run: Callable, numbers, floats, choices) -> jax.Array:
    """The sum over rounds, from one number up to another. The backward pass runs each once more."""
    start_SM = jnp.zeros(floats[0].shape, jnp.float32)
    first, end = numbers
    return jax.lax.fori_loop(
        first, end, lambda number, y_SM: y_SM + run(number, floats, choices), start_SM
    )


def _forward(run, numbers, floats, choices):
    return _rounds(run, numbers, floats, choices), (numbers, floats, choices)


def _backward(run, residuals, dy_SM):
    (first, end), floats, choices = residuals

    def add_round(number, gradients):
        _, pull = jax.vjp(lambda floats: run(number, floats, choices), floats)
        return jax.tree.map(jnp.add, gradients, pull(dy_SM)[0])

    zeros = jax.tree.map(jnp.zeros_like, floats)
    return None, jax.lax.fori_loop(first, end, add_round, zeros), None


_rounds.defvjp(_forward, _backward)
