"""gshard-train: trains a model from prepared data, or goes on where it was stopped."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
import signal
import sys

from absl import flags

from gshard_mt.cli import flags as cli_flags
from gshard_mt.cli.startup import processes
from gshard_mt.cli.startup.compilation import use_cache
from gshard_mt.cli.startup.memory import keep_buffers, largest_weight
from gshard_mt.config.records import decoding_mesh_shape, mesh_shape

STOPPED = 128 + signal.SIGTERM  # the exit status, whichever signal it was

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
_PROFILE_STEPS = flags.DEFINE_string(
    "profile_steps", "", "FIRST:LAST, such as 10:15: a trace of these steps in WORKDIR/profile."
)


def main(argv) -> None:
    """Refuses what can be refused before JAX and its devices are touched."""
    del argv
    from gshard_mt.data.prepared import open_prepared

    config = cli_flags.read_config()
    place = processes.read_place()
    prepared = open_prepared(pathlib.Path(_DATA_DIR.value))

    is_kept = keep_buffers(largest_weight(config))
    from gshard_mt.partitioning import mesh
    from gshard_mt.train.loop import Options, train
    from gshard_mt.train.metrics import say
    from gshard_mt.train.profile import parse_steps

    profile_steps = parse_steps(_PROFILE_STEPS.value, config)
    workdir = pathlib.Path(_WORKDIR.value)
    use_cache(workdir)
    processes.join(place, config.mesh.num_cpu_devices)
    mesh.simulate_cpu_devices(config.mesh.num_cpu_devices)
    grid = mesh.build_mesh(*mesh_shape(config))
    dev_bleu = None
    if config.train.bleu_every:
        from gshard_mt.evaluate.dev_bleu import make_dev_bleu

        dev_bleu = make_dev_bleu(config, prepared, mesh.build_mesh(*decoding_mesh_shape(config)))
    if is_kept:
        say("memory      kept between steps (--nokeep_buffers gives it back)")
    options = Options(_CHANGE_MIXTURE.value, profile_steps, dev_bleu)
    if not train(config, prepared, workdir, grid, options):
        sys.exit(STOPPED)


def entry() -> None:
    """The console script."""
    cli_flags.run(main)


if __name__ == "__main__":
    entry()
