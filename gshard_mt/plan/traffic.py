"""Estimates from shapes what a step moves between devices, for steps that are not compiled."""
# SPDX-License-Identifier: Apache-2.0

import math

import jax
import jax.numpy as jnp

from gshard_mt.config.records import Config
from gshard_mt.model.blueprint import Blueprint
from gshard_mt.model.moe import group_capacity, training_groups


def estimate_traffic(config: Config, blueprint: Blueprint) -> dict[str, float]:
    """Returns the bytes that a device receives in a step, by kind of collective.

    An MoE layer has two all-to-alls of its expert slots, two more in the backward pass, and two
    more if it is recomputed. Gradients of replicated parameters are all-reduced. With
    `mesh.shard_parameters` these are gathered for each pass instead and their gradients scattered.
    """
    moe, dtype, mesh = config.model.moe, config.model.dtype, blueprint.mesh.shape
    found: dict[str, float] = {}
    shares = mesh["data"] * mesh["expert"]
    if shares > 1:
        common = 0.0
        sizes = jax.tree.map(lambda leaf: 4.0 * leaf.size, blueprint.params)
        leaves = zip(jax.tree.leaves(sizes), jax.tree.leaves(blueprint.letters), strict=True)
        for size, letters in leaves:
            if not letters.startswith("E"):
                parts = math.prod(mesh.get(axis, 1) for axis in ("model", "stage"))
                common += size / parts
            elif mesh["data"] > 1:
                common += size / mesh["expert"] / mesh["model"]
        if config.mesh.shard_parameters:
            num_passes = 2 if config.model.remat == "none" else 3
            found |= {"all-gather": num_passes * common, "reduce-scatter": common}
        else:
            found["all-reduce"] = common
    if moe.num_experts and mesh["expert"] > 1:
        if moe.all_to_all_dtype != "same":
            dtype = moe.all_to_all_dtype
        capacity = group_capacity(config.model, training_groups(config.model), moe.group_size)
        num_times = 6 if config.model.remat == "full" else 4
        for length in (config.data.source_length, config.data.target_length):
            groups = config.train.batch_rows * length / moe.group_size / shares
            slots = groups * moe.num_experts * capacity
            size = slots * config.model.model_dim * jnp.dtype(dtype).itemsize
            layers = config.model.num_layers // 4
            found["all-to-all"] = found.get("all-to-all", 0.0) + num_times * layers * size
    return found
