"""Training speed of a config on prepared data: real batches through the real step, input included.

python -m benchmarks.train_step --config FILE --data_dir DIR
"""
# SPDX-License-Identifier: Apache-2.0

import json
import pathlib

from absl import flags

from benchmarks.machine import describe_machine
from benchmarks.steps import time_steps
from gshard_mt.cli import flags as cli_flags
from gshard_mt.cli.startup.memory import keep_buffers, largest_weight
from gshard_mt.data.prepared import open_prepared
from gshard_mt.partitioning import mesh as meshes

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
    name = {"config": flags.FLAGS["config"].config_filename}  # type: ignore[attr-defined]
    row = {"benchmark": "train_step"} | name | time_steps(config, prepared, _STEPS.value)
    print(json.dumps(row | describe_machine()), flush=True)


cli_flags.command(main)
