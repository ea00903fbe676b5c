"""gshard-eval: translates held-out sentences and prints the table of scores per language."""
# SPDX-License-Identifier: Apache-2.0

import pathlib

from absl import flags

from gshard_mt.cli import flags as cli_flags
from gshard_mt.cli.memory import keep_buffers, largest_weight
from gshard_mt.config import decoding_mesh_shape

_WORKDIR = flags.DEFINE_string("workdir", None, "The run directory.", required=True)
_STEP = flags.DEFINE_string(
    "step", "latest", "Which checkpoint: a step, latest, or best (dev nll)."
)
_SPLIT = flags.DEFINE_enum("split", "test", ["dev", "test"], "Which held-out sentences.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "The run's prepared data, if they have moved.")


def main(argv) -> None:
    """Writes hypotheses and tables under `eval/<step>/<split>/` and prints the table."""
    del argv
    from gshard_mt.run import read_run

    workdir = pathlib.Path(_WORKDIR.value)
    run = read_run(workdir)
    data_dir = pathlib.Path(_DATA_DIR.value) if _DATA_DIR.value else run.data_dir

    keep_buffers(largest_weight(run.config))
    from gshard_mt.evaluate.evaluate import evaluate
    from gshard_mt.partitioning import mesh

    mesh.simulate_cpu_devices(run.config.mesh.num_cpu_devices)
    grid = mesh.build_mesh(*decoding_mesh_shape(run.config))
    print(evaluate(workdir, run, data_dir, _STEP.value, _SPLIT.value, grid), end="")


def entry() -> None:
    """The console script."""
    cli_flags.run(main)


if __name__ == "__main__":
    entry()
