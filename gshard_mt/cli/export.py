"""gshard-export: writes a checkpoint as safetensors files with all that is needed to run the model.

gshard-export --workdir RUN --out FOLDER

docs/export.md describes the layout. No accelerator is used.
"""
# SPDX-License-Identifier: Apache-2.0

import pathlib

from absl import flags

from gshard_mt.cli import flags as cli_flags
from gshard_mt.config.keys import KEYS

_WORKDIR = cli_flags.define_workdir()
_OUT = flags.DEFINE_string("out", None, "Folder to write; must be new or empty.", required=True)
_STEP = cli_flags.define_step(has_average=False)
_DTYPE = flags.DEFINE_enum(
    "dtype", "float32", KEYS["model.dtype"].accepted.names, "Number format of the exported arrays."
)


def main() -> None:
    """Writes the folder and prints what was written."""
    from gshard_mt.run.directory import read_run

    workdir, out = pathlib.Path(_WORKDIR.value), pathlib.Path(_OUT.value)
    read_run(workdir)  # refused before JAX is imported
    from gshard_mt.export.folder import export
    from gshard_mt.partitioning import mesh

    mesh.simulate_cpu_devices(1)
    made = export(workdir, out, _STEP.value, _DTYPE.value)
    size = sum(path.stat().st_size for path in out.glob("model*.safetensors"))
    print(
        f"step {made.step}: {made.num_parameters:,} parameters in {made.dtype}, "
        f"{size / 2**20:,.1f} MiB in {out}"
    )


entry = cli_flags.command(main)
