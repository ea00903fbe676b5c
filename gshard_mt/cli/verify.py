"""gshard-verify: checks that every checkpoint of a run is intact.

Usage:   gshard-verify --workdir RUN
Example: gshard-verify --workdir run

Restores each checkpoint, compares it with the checksums it was saved with, and prints one line.
Exit status 0 if all are intact, 2 if one is damaged. Nothing is changed.
"""
# SPDX-License-Identifier: Apache-2.0

from gshard_mt.cli import flags as cli_flags
from gshard_mt.errors import CheckpointError, DamagedError

_WORKDIR = cli_flags.define_workdir()


def main() -> None:
    """Restores the checkpoints one by one, on the devices of this machine."""
    from gshard_mt.run.directory import read_run
    from gshard_mt.run.mirror import open_folder

    workdir = open_folder(_WORKDIR.value)
    config = read_run(workdir).config
    import jax

    from gshard_mt.data.tokenizer import load_tokenizer
    from gshard_mt.partitioning import mesh
    from gshard_mt.run.checkpoints import Checkpoints
    from gshard_mt.train.state import abstract_training

    mesh.simulate_cpu_devices(config.mesh.num_cpu_devices)
    grid = mesh.build_mesh(*config.mesh.decoding_shape())
    vocab_sizes = load_tokenizer(workdir).vocab_sizes
    damaged = []
    with jax.set_mesh(grid):
        _, _, like = abstract_training(config, vocab_sizes, grid)
        checkpoints = Checkpoints(workdir)
        checkpoints.choose("latest")  # raises if there is none
        for step in checkpoints.steps():
            try:
                checkpoints.restore(step, like.params, like.opt_state)
                print(f"{step:>10}  whole", flush=True)
            except DamagedError as error:
                print(f"{step:>10}  damaged: {error}", flush=True)
                damaged.append(step)
    if damaged:
        raise CheckpointError(
            f"{checkpoints.directory}: damaged: {', '.join(map(str, damaged))}; gshard-train "
            "skips them and resumes from the newest intact one"
        )


entry = cli_flags.command(main)
