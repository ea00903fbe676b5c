"""gshard-train: trains a model from prepared data, or goes on where it was stopped."""
# SPDX-License-Identifier: Apache-2.0

import pathlib

from absl import flags

from gshard_mt.cli import flags as cli_flags
from gshard_mt.cli.memory import keep_buffers, largest_weight
from gshard_mt.config import mesh_shape

cli_flags.define_config()
_DATA_DIR = flags.DEFINE_string("data_dir", None, "What gshard-prepare-data wrote.", required=True)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "The run directory; an unfinished run in it goes on.", required=True
)
_CHANGE_MIXTURE = flags.DEFINE_bool(
    "change_mixture",
    False,
    "Go on with other prepared data (of the same tokenizer) or another data.temperature from the "
    "last checkpoint on: languages that stay keep their place, new ones begin.",
)


def main(argv) -> None:
    """Refuses what can be refused before JAX and its devices are touched."""
    del argv
    from gshard_mt.data.prepared import open_prepared

    config = cli_flags.read_config()
    prepared = open_prepared(pathlib.Path(_DATA_DIR.value))

    if keep_buffers(largest_weight(config)):
        print("memory      kept between steps (--nokeep_buffers gives it back)")
    from gshard_mt.partitioning import mesh
    from gshard_mt.train.loop import train

    mesh.simulate_cpu_devices(config.mesh.num_cpu_devices)
    train(
        config,
        prepared,
        pathlib.Path(_WORKDIR.value),
        mesh.build_mesh(*mesh_shape(config)),
        _CHANGE_MIXTURE.value,
    )


def entry() -> None:
    """The console script."""
    cli_flags.run(main)


if __name__ == "__main__":
    entry()
