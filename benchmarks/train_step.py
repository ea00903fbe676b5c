"""Training speed of a config on prepared data: real batches through the real step, input included.

python -m benchmarks.train_step --config FILE --data_dir DIR
"""
# SPDX-License-Identifier: Apache-2.0

import json
import pathlib
import statistics
import time

import jax
from absl import flags

from benchmarks.machine import describe_machine
from gshard_mt.cli import flags as cli_flags
from gshard_mt.cli.startup.memory import keep_buffers, largest_weight
from gshard_mt.data.batches import train_batches
from gshard_mt.data.prepared import open_prepared
from gshard_mt.model.blueprint import count_parameters
from gshard_mt.partitioning import mesh as meshes
from gshard_mt.partitioning.placement import sharding
from gshard_mt.train.state import abstract_training, initial_state
from gshard_mt.train.step import make_train_step

cli_flags.define_config()
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Prepared data, as written by gshard-prepare-data.", required=True
)
_STEPS = flags.DEFINE_integer("steps", 20, "Number of timed steps, after three that are not timed.")


def main() -> None:
    """Prints one row."""
    keep_buffers(largest_weight(cli_flags.read_config()))
    config, prepared = cli_flags.read_config(), open_prepared(pathlib.Path(_DATA_DIR.value))
    meshes.simulate_cpu_devices(config.mesh.num_cpu_devices)
    mesh = meshes.build_mesh(*config.mesh.shape())
    seconds, words = [], []
    with jax.set_mesh(mesh):
        blueprint, optimizer, _ = abstract_training(config, prepared.vocab_sizes, mesh)
        state = initial_state(blueprint, optimizer, config.train.seed)
        train_step = make_train_step(blueprint, config.train, optimizer)
        batches, rows = (
            train_batches(prepared, config.data, config.train.batch_rows),
            sharding(mesh, "BL", 2),
        )
        for step in range(_STEPS.value + 3):
            start = time.perf_counter()
            state, metrics = train_step(state, jax.device_put(next(batches), rows))
            num_tokens = int(metrics.token_loss.num_tokens)
            if step >= 3:
                seconds.append(time.perf_counter() - start)
                words.append(num_tokens)
    total, active = count_parameters(blueprint)
    row = {
        "benchmark": "train_step",
        "config": flags.FLAGS["config"].config_filename,  # type: ignore[attr-defined]
        "parameters": total,
        "active_parameters": active,
        "devices": mesh.devices.size,
        "seconds": statistics.median(seconds),
        "target_words_per_second": statistics.mean(words) / statistics.median(seconds),
        "row_fill": statistics.mean(words) / (config.train.batch_rows * config.data.target_length),
        **describe_machine(),
    }
    print(json.dumps(row), flush=True)


cli_flags.command(main)
