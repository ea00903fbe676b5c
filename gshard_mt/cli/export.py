"""gshard-export: writes a checkpoint as a folder for other programs.

Usage:   gshard-export --workdir RUN [--step STEP] --out FOLDER [--format safetensors|ctranslate2]
Example: gshard-export --workdir run --out model
         gshard-export --workdir run --out model --format ctranslate2 --quantization int8
         gshard-export --workdir run --out model --languages de,fr --keep_experts 0.5

safetensors: all arrays and what is needed to run the model, as docs/export.md describes it.
ctranslate2: a dense model for the engine CTranslate2. No accelerator is used. If experts are
dropped, both models translate the dev sentences, and a table compares them.
"""
# SPDX-License-Identifier: Apache-2.0

import functools
import pathlib
import sys
from typing import TYPE_CHECKING

from absl import flags

from gshard_mt.cli import flags as cli_flags
from gshard_mt.cli.pruning import define_pruning
from gshard_mt.config.keys import KEYS
from gshard_mt.errors import ConfigError, DataError

if TYPE_CHECKING:
    from gshard_mt.export.vocabulary_map import VocabularyMap
    from gshard_mt.run.directory import Run
    from gshard_mt.run.pruning import Worth

_WORKDIR = cli_flags.define_workdir()
_OUT = flags.DEFINE_string("out", None, "Folder to write; must be new or empty.", required=True)
_STEP = cli_flags.define_step()
_FORMAT = flags.DEFINE_enum(
    "format", "safetensors", ["safetensors", "ctranslate2"], "What the folder is made for."
)
_DTYPE = flags.DEFINE_enum(
    "dtype", None, [*KEYS["model.dtype"].accepted.names, "int8"],
    "Number format of the arrays in safetensors files; int8 is for the weights, with scales. "
    "(default: float32)",
)  # fmt: skip
_QUANTIZATION = flags.DEFINE_enum(
    "quantization", None,
    # CTranslate2 would need PyTorch to write those with bfloat16.
    ["float32", "float16", "int16", "int8", "int8_float32", "int8_float16"],
    "Number format of a ctranslate2 model's weights. (default: float32)",
)  # fmt: skip
_VMAP = flags.DEFINE_bool(
    "vmap", False,
    "With --format ctranslate2: write vmap.txt too, learned from the run's data, with which "
    "CTranslate2 translates faster (use_vmap).",
)  # fmt: skip
_LICENSE = flags.DEFINE_string(
    "license", "", "Licence of the model, as the Hugging Face Hub calls it, e.g. cc-by-4.0."
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "With --keep_experts or --vmap: the run's data, if they were moved."
)
_CHOOSE_BY = flags.DEFINE_enum(
    "choose_experts_by", "load", ["load", "loss"],
    "What --keep_experts keeps: the experts with the largest loads in training, or those without "
    "which the dev loss rises most. The latter takes one dev evaluation for each expert.",
)  # fmt: skip
_read_pruning = define_pruning()


def main() -> None:
    """Writes the folder and prints what was written."""
    from gshard_mt.run.directory import read_run
    from gshard_mt.run.mirror import open_folder, output_folder

    for_engine = _FORMAT.value == "ctranslate2"
    wrong, right = (_DTYPE, _QUANTIZATION) if for_engine else (_QUANTIZATION, _DTYPE)
    if wrong.value:
        raise ConfigError(
            f"--{wrong.name}: found with --format {_FORMAT.value}, accepted: --{right.name}"
        )
    if _VMAP.value and not for_engine:
        raise ConfigError("--vmap: found with --format safetensors, accepted: ctranslate2")
    workdir = open_folder(_WORKDIR.value)
    run = read_run(workdir)  # refused before JAX is imported
    with output_folder(_OUT.value, is_new=True) as out:
        _export(workdir, out, run, right.value or "float32")


def _export(workdir: pathlib.Path, out: pathlib.Path, run: "Run", numbers: str) -> None:
    pruning = _read_pruning(workdir, run, _STEP.value, _loss(workdir, out, run))
    from gshard_mt.export import ctranslate2_model
    from gshard_mt.export.card import check_license
    from gshard_mt.export.folder import export, write_safetensors
    from gshard_mt.partitioning import mesh
    from gshard_mt.run.mirror import shown

    check_license(_LICENSE.value)
    mesh.simulate_cpu_devices(1)
    if _FORMAT.value == "ctranslate2":
        ctranslate2_model.check(run.config.model)
        write = functools.partial(
            ctranslate2_model.write,
            quantization=numbers,
            license=_LICENSE.value,
            vocabulary_map=_learn_map(workdir, out, run) if _VMAP.value else None,
        )
        made = export(workdir, out, _STEP.value, write=write)
    else:
        write = functools.partial(write_safetensors, license=_LICENSE.value)
        made = export(workdir, out, _STEP.value, numbers, write, pruning)
    size = sum(path.stat().st_size for path in out.glob("model*"))
    print(
        f"step {made.name}: {made.num_parameters:,} parameters in {numbers}, "
        f"{size / 2**20:,.1f} MiB in {shown(out)}"
    )
    if pruning:
        _compare(workdir, out, run, "average" if made.averaged else str(made.step))


def _learn_map(workdir: pathlib.Path, out: pathlib.Path, run: "Run") -> "VocabularyMap":
    from gshard_mt.evaluate.test_sets import open_data
    from gshard_mt.export.folder import check_empty
    from gshard_mt.export.vocabulary_map import draw, learn

    check_empty(out)
    prepared = open_data(run, workdir, _DATA_DIR.value)
    pairs = [pair for pair in run.train_pairs if pair in prepared.train_pairs]
    return learn(draw(prepared, pairs), prepared.vocab_sizes)


def _loss(workdir: pathlib.Path, out: pathlib.Path, run: "Run") -> "Worth | None":
    """Returns the worth of experts by dev loss, if that is asked for."""
    if _CHOOSE_BY.value == "load":
        return None
    from gshard_mt.evaluate.expert_losses import loss_without_experts
    from gshard_mt.evaluate.test_sets import open_data
    from gshard_mt.export.folder import check_empty
    from gshard_mt.partitioning import mesh

    check_empty(out)  # before the evaluations, which take long
    prepared = open_data(run, workdir, _DATA_DIR.value)
    mesh.simulate_cpu_devices(1)
    return loss_without_experts(workdir, _STEP.value, prepared)


def _compare(workdir: pathlib.Path, out: pathlib.Path, run: "Run", step: str) -> None:
    """Prints dev scores before and after pruning, unless the run's data are gone."""
    from gshard_mt.evaluate.pruning import compare
    from gshard_mt.evaluate.test_sets import held_out, open_data

    try:
        prepared = open_data(run, workdir, _DATA_DIR.value)
        table = compare(workdir, out, held_out(prepared, "dev"), step)
    except DataError as error:
        print(f"not compared  {error}", file=sys.stderr)
        return
    print("\n".join(table.to_text()))


entry = cli_flags.command(main)
