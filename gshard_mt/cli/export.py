"""gshard-export: a checkpoint as safetensors files with everything needed to run the model.

gshard-export --workdir RUN --out FOLDER

The layout is in docs/export.md. No accelerator is used.
"""
# SPDX-License-Identifier: Apache-2.0

import pathlib

from absl import flags

from gshard_mt.cli import flags as cli_flags
from gshard_mt.config.records import DTYPES

_WORKDIR = flags.DEFINE_string("workdir", None, "The run directory.", required=True)
_OUT = flags.DEFINE_string("out", None, "A new folder, or an empty one.", required=True)
_STEP = flags.DEFINE_string(
    "step", "latest", "Which checkpoint: a step, latest, or best (by train.best_by)."
)
_DTYPE = flags.DEFINE_enum("dtype", "float32", DTYPES, "Of the arrays in the files.")


def main(argv) -> None:
    """Writes the folder and says what is in it."""
    del argv
    from gshard_mt.run.directory import read_run

    workdir, out = pathlib.Path(_WORKDIR.value), pathlib.Path(_OUT.value)
    read_run(workdir)  # refused before JAX is loaded
    from gshard_mt.export.folder import export
    from gshard_mt.partitioning import mesh

    mesh.simulate_cpu_devices(1)
    made = export(workdir, out, _STEP.value, _DTYPE.value)
    size = sum(path.stat().st_size for path in out.glob("model*.safetensors"))
    print(
        f"step {made.step}: {made.num_parameters:,} parameters in {made.dtype}, "
        f"{size / 2**20:,.1f} MiB in {out}"
    )


def entry() -> None:
    """The console script."""
    cli_flags.run(main)


if __name__ == "__main__":
    entry()
