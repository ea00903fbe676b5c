"""gshard-verify: reads every checkpoint of a run and compares it with what was saved.

gshard-verify --workdir RUN

One line a checkpoint. Exit status 0 if all are whole, 2 if one is damaged. Nothing is changed.
"""
# SPDX-License-Identifier: Apache-2.0

import pathlib

from absl import flags

from gshard_mt.cli import flags as cli_flags
from gshard_mt.config.records import decoding_mesh_shape
from gshard_mt.errors import CheckpointError, DamagedError

_WORKDIR = flags.DEFINE_string("workdir", None, "The run directory.", required=True)


def main(argv) -> None:
    """Restores the checkpoints one after another, on the devices that are there."""
    del argv
    from gshard_mt.run.directory import read_run

    workdir = pathlib.Path(_WORKDIR.value)
    config = read_run(workdir).config
    import jax

    from gshard_mt.data.tokenizer import load_tokenizer
    from gshard_mt.partitioning import mesh
    from gshard_mt.run.checkpoints import Checkpoints
    from gshard_mt.train.state import abstract_training

    mesh.simulate_cpu_devices(config.mesh.num_cpu_devices)
    grid = mesh.build_mesh(*decoding_mesh_shape(config))
    vocab_sizes = load_tokenizer(workdir).vocab_sizes
    damaged = []
    with jax.set_mesh(grid):
        _, _, like = abstract_training(config, vocab_sizes, grid)
        checkpoints = Checkpoints(workdir)
        checkpoints.choose("latest")  # there is one
        for step in checkpoints.steps():
            try:
                checkpoints.restore(step, like.params, like.optimizer)
                print(f"{step:>10}  whole", flush=True)
            except DamagedError as error:
                print(f"{step:>10}  damaged: {error}", flush=True)
                damaged.append(step)
    if damaged:
        raise CheckpointError(
            f"{checkpoints.directory}: damaged: {', '.join(map(str, damaged))}; gshard-train "
            "passes over them and goes on from the newest whole one"
        )


def entry() -> None:
    """The console script."""
    cli_flags.run(main)


if __name__ == "__main__":
    entry()
