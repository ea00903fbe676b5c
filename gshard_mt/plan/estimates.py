"""What a step needs and moves, from shapes: exact for arrays, estimated for what only XLA knows."""
# SPDX-License-Identifier: Apache-2.0

import math
from typing import Any

import jax
import jax.numpy as jnp

from gshard_mt.config.records import Config
from gshard_mt.model.blueprint import Blueprint
from gshard_mt.model.moe import group_capacity, training_groups


def bytes_per_device(tree: Any) -> float:
    """Returns the bytes on one device of a tree of shapes with shardings."""
    return float(
        sum(
            math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
            for leaf in jax.tree.leaves(tree)
        )
    )


def estimate_temporaries(config: Config, params_bytes: float, num_devices: int) -> float:
    """Estimates a step's bytes besides its arguments: gradients, updates, activations.

    With `model.remat`, only the inputs of blocks are kept, plus all of the block at hand.
    """
    model = config.model
    source, target = config.data.source_length, config.data.target_length
    width = model.num_heads * model.head_dim
    rows = config.train.batch_rows / num_devices
    itemsize = jnp.dtype(model.dtype).itemsize

    def layer(length: int, memory_length: int) -> float:
        """Returns the bytes per token of a layer's activations that the backward pass needs."""
        attention = itemsize * (6 * model.model_dim + 4 * width) + 8 * model.num_heads * length
        if memory_length:
            attention += itemsize * 4 * width + 8 * model.num_heads * memory_length
        choices = model.moe.capacity_factor if model.moe.num_experts else 1.0
        hidden = itemsize * (1.0 + choices) / 2.0 * (2 * model.ffn_dim + 2 * model.model_dim)
        return attention + hidden

    layers_of_block = 2 if model.moe.num_experts else 1
    activations = 0.0
    for length, memory_length in ((source, 0), (target, source)):
        blocks = model.layers_of(is_decoder=memory_length > 0) // layers_of_block
        block = rows * length * layers_of_block * layer(length, memory_length)
        kept = rows * length * model.model_dim * 4
        activations += blocks * block if model.remat == "none" else blocks * kept + block
    return 2.0 * params_bytes + activations


def least_traffic(
    config: Config, parameter_bytes: float, optimizer_bytes: float, temporary_bytes: float
) -> float:
    """Returns the least number of bytes that a step moves to and from a device's memory.

    Parameters are read in every pass over the layers, then read and written together with the
    optimizer state; gradients and activations are written once and read once.
    """
    num_passes = 2 if config.model.remat == "none" else 3
    return (num_passes + 2) * parameter_bytes + 2 * optimizer_bytes + 2 * temporary_bytes


def estimate_traffic(config: Config, blueprint: Blueprint) -> dict[str, float]:
    """Estimates the bytes that a device receives in a step from its slice, by kind of collective.

    An MoE layer has two all-to-alls of its expert slots, two more in the backward pass, and two
    more if it is recomputed. Gradients of replicated parameters are all-reduced. With
    `mesh.shard_parameters` these are gathered for each pass instead and their gradients scattered.
    """
    moe, dtype, mesh = config.model.moe, config.model.dtype, blueprint.mesh.shape
    found: dict[str, float] = {}
    num_slices = mesh.get("dcn_data", 1)
    shares = mesh["data"] * mesh["expert"]
    if shares > 1:
        common = 0.0
        leaves = map(jax.tree.leaves, (blueprint.params, blueprint.letters))
        for leaf, letters in zip(*leaves, strict=True):
            size = 4.0 * leaf.size
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
        for side, is_decoder in (("source", False), ("target", True)):
            length = getattr(config.data, f"{side}_length")
            groups = config.train.batch_rows * length / moe.group_size / shares / num_slices
            slots = groups * moe.num_experts * capacity
            size = slots * config.model.model_dim * jnp.dtype(dtype).itemsize
            layers = config.model.layers_of(is_decoder) // 2  # with experts
            found["all-to-all"] = found.get("all-to-all", 0.0) + num_times * layers * size
    return found


def estimate_dcn_traffic(blueprint: Blueprint) -> dict[str, float]:
    """Estimates the bytes that a device sends to other slices in a step, by kind of collective.

    The slices all-reduce the gradients of all parameters; the devices of a slice share that work.
    """
    mesh = blueprint.mesh
    num_slices = mesh.shape.get("dcn_data", 1)
    if num_slices == 1:
        return {}
    gradients = 4.0 * sum(leaf.size for leaf in jax.tree.leaves(blueprint.params))
    share = gradients / (mesh.size // num_slices)
    return {"all-reduce": 2.0 * (num_slices - 1) / num_slices * share}
