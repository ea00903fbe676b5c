"""Real batches through the real training step, and what that takes."""
# SPDX-License-Identifier: Apache-2.0

import statistics
import time
from typing import Any

import jax

from gshard_mt.config.records import Config
from gshard_mt.data.batches import train_batches
from gshard_mt.data.prepared import Prepared
from gshard_mt.model.blueprint import count_parameters
from gshard_mt.model.cost import step_flops
from gshard_mt.partitioning import mesh as meshes
from gshard_mt.partitioning.placement import sharding
from gshard_mt.train.state import abstract_training, initial_state
from gshard_mt.train.step import make_train_step

WARM_UP = 3  # steps that are not timed


def time_steps(config: Config, prepared: Prepared, num_steps: int) -> dict[str, Any]:
    """Returns the fields of a row: seconds of a step, words, memory, waiting for batches."""
    mesh = meshes.build_mesh(*config.mesh.shape())
    seconds, waiting, words = [], [], []
    with jax.set_mesh(mesh):
        blueprint, optimizer, _ = abstract_training(config, prepared.vocab_sizes, mesh)
        state = initial_state(blueprint, optimizer, config.train.seed)
        train_step: Any = make_train_step(blueprint, config.train, optimizer)
        batches = train_batches(prepared, config.data, config.train.batch_rows)
        rows = sharding(mesh, "BL", 2)
        for step in range(num_steps + WARM_UP):
            start = time.perf_counter()
            batch = jax.device_put(next(batches), rows)
            wait = time.perf_counter() - start
            if step == 0:
                train_step = train_step.lower(state, batch).compile()
            state, metrics = train_step(state, batch)
            num_tokens = int(metrics.token_loss.num_tokens)
            if step >= WARM_UP:
                seconds.append(time.perf_counter() - start)
                waiting.append(wait)
                words.append(num_tokens)
        batches.close()
    total, active = count_parameters(blueprint)
    median, peak = statistics.median(seconds), meshes.peak_flops(mesh)
    used = mesh.devices.flat[0].memory_stats() or {}
    row = {
        "parameters": total,
        "active_parameters": active,
        "devices": mesh.devices.size,
        "seconds": median,
        "target_words_per_second": statistics.mean(words) / median,
        "row_fill": statistics.mean(words) / (config.train.batch_rows * config.data.target_length),
        "input_seconds": statistics.median(waiting),
        "temporary_mib": round(train_step.memory_analysis().temp_size_in_bytes / 2**20, 1),
    }
    if peak:
        row["mfu"] = step_flops(config, blueprint) / median / peak
    if "peak_bytes_in_use" in used:  # of this process so far
        row["peak_mib"] = round(used["peak_bytes_in_use"] / 2**20)
    return row
