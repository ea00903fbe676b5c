"""What a step moves between devices, estimated from shapes where nothing is compiled."""
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Mapping

import jax.numpy as jnp

from gshard_mt.config import Config
from gshard_mt.model.moe import group_capacity, training_groups


def estimate_traffic(
    config: Config, mesh: Mapping[str, int], parameter_bytes: float
) -> dict[str, float]:
    """Returns the bytes that a device gets in a step, by kind of collective.

    An MoE layer has two all-to-alls of its slots, their gradients two more, and a layer that is
    computed again two more. The gradients of what all devices hold are added up: at most those of
    all that lies on a device.
    """
    moe, dtype = config.model.moe, config.model.dtype
    found: dict[str, float] = {}
    shares = mesh["data"] * mesh["expert"]
    if shares > 1:
        found["all-reduce"] = parameter_bytes
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
