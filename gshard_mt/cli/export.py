"""gshard-export: writes a checkpoint as a folder for other programs.

gshard-export --workdir RUN --out FOLDER
gshard-export --workdir RUN --out FOLDER --format ctranslate2 --quantization int8

safetensors: all arrays and what is needed to run the model, as docs/export.md describes it.
ctranslate2: a dense model for the engine CTranslate2. No accelerator is used.
"""
# SPDX-License-Identifier: Apache-2.0

import functools
import pathlib

from absl import flags

from gshard_mt.cli import flags as cli_flags
from gshard_mt.config.keys import KEYS
from gshard_mt.errors import ConfigError

_WORKDIR = cli_flags.define_workdir()
_OUT = flags.DEFINE_string("out", None, "Folder to write; must be new or empty.", required=True)
_STEP = cli_flags.define_step(has_average=False)
_FORMAT = flags.DEFINE_enum(
    "format", "safetensors", ["safetensors", "ctranslate2"], "What the folder is made for."
)
_DTYPE = flags.DEFINE_enum(
    "dtype", None, KEYS["model.dtype"].accepted.names,
    "Number format of the arrays in safetensors files. (default: float32)",
)  # fmt: skip
_QUANTIZATION = flags.DEFINE_enum(
    "quantization", None,
    # CTranslate2 would need PyTorch to write those with bfloat16.
    ["float32", "float16", "int16", "int8", "int8_float32", "int8_float16"],
    "Number format of a ctranslate2 model's weights. (default: float32)",
)  # fmt: skip


def main() -> None:
    """Writes the folder and prints what was written."""
    from gshard_mt.run.directory import read_run

    for_engine = _FORMAT.value == "ctranslate2"
    wrong, right = (_DTYPE, _QUANTIZATION) if for_engine else (_QUANTIZATION, _DTYPE)
    if wrong.value:
        raise ConfigError(
            f"--{wrong.name}: found with --format {_FORMAT.value}, accepted: --{right.name}"
        )
    workdir, out = pathlib.Path(_WORKDIR.value), pathlib.Path(_OUT.value)
    run = read_run(workdir)  # refused before JAX is imported
    from gshard_mt.export import ctranslate2_model
    from gshard_mt.export.folder import export
    from gshard_mt.partitioning import mesh

    mesh.simulate_cpu_devices(1)
    numbers = right.value or "float32"
    if for_engine:
        ctranslate2_model.check(run.config.model)
        write = functools.partial(ctranslate2_model.write, quantization=numbers)
        made = export(workdir, out, _STEP.value, write=write)
    else:
        made = export(workdir, out, _STEP.value, numbers)
    size = sum(path.stat().st_size for path in out.glob("model*"))
    print(
        f"step {made.step}: {made.num_parameters:,} parameters in {numbers}, "
        f"{size / 2**20:,.1f} MiB in {out}"
    )


entry = cli_flags.command(main)
