"""Exports a checkpoint to a folder for other programs: arrays, config, tokenizers."""
# SPDX-License-Identifier: Apache-2.0

import itertools
import math
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from gshard_mt.data.tokenizer import load_tokenizer
from gshard_mt.documents import write_json
from gshard_mt.errors import DamagedError, ExportError
from gshard_mt.export.card import write_card
from gshard_mt.export.description import Export, to_json
from gshard_mt.export.tensors import MAX_BYTES, write_tensors
from gshard_mt.model.blueprint import Blueprint, abstract_model
from gshard_mt.model.layout import describe, lay_out
from gshard_mt.model.pruning import prune_array
from gshard_mt.model.quantized import quantize_weight
from gshard_mt.partitioning.axes import letters_of
from gshard_mt.partitioning.mesh import build_mesh
from gshard_mt.run.calibration import path_of
from gshard_mt.run.checkpoints import AVERAGE, Checkpoints
from gshard_mt.run.directory import read_run
from gshard_mt.run.exported import FORMAT, FORMAT_VERSION, INT8
from gshard_mt.run.pruning import Pruning, pruned

UNFINISHED = ".unfinished"  # subfolder for files of an export in progress
_LAST = ("config.json", "model.bin")  # without the last file of its format, a folder is no export

# Writes arrays, which come in the order of the export's tensors, and whatever describes them.
Writer = Callable[[pathlib.Path, Export, Iterator[np.ndarray]], None]


def write_safetensors(
    folder: pathlib.Path,
    made: Export,
    arrays: Iterator[np.ndarray],
    max_bytes: int = MAX_BYTES,
    license: str = "",
) -> None:
    """Writes files of at most `max_bytes` of arrays, and all that describes them."""
    described = describe(made.stored)
    write_card(folder, made, "safetensors", license, numbers=made.dtype, arrays=described)
    step = str(made.step)
    metadata = {"format": FORMAT, "format_version": str(FORMAT_VERSION), "step": step}
    write_tensors(folder, _sizes(made), _quantized(made, arrays), metadata, max_bytes)
    (folder / "tokenizer").mkdir()
    for path in (made.workdir / "tokenizer").iterdir():  # not copytree: of a read-only folder it
        shutil.copyfile(path, folder / "tokenizer" / path.name)  # makes one that can't be moved
    _copy_calibration(folder, made)
    write_json(folder / "config.json", to_json(made), indent=2)


def _copy_calibration(folder: pathlib.Path, made: Export) -> None:
    """Copies the confidences of the run, if the model gives the same probabilities."""
    source, target = path_of(made.workdir, made.name), path_of(folder, str(made.step))
    if source.exists() and not made.pruning and made.dtype != INT8:
        target.parent.mkdir(parents=True)
        shutil.copyfile(source, target)


def export(
    workdir: pathlib.Path,
    out: pathlib.Path,
    step: str = "latest",
    dtype: str = "float32",
    write: Writer = write_safetensors,
    pruning: Pruning | None = None,
) -> Export:
    """Writes a checkpoint (`latest`, `best`, a number, `average`) to `out`, an empty or new folder.

    Parameters are read one at a time onto one CPU device, whatever mesh saved them, and given to
    `write` as `dtype`, for int8 as float32, without the experts that a pruning drops. Raises
    ExportError, CheckpointError or DataError.
    """
    check_empty(out)
    run = read_run(workdir)
    checkpoints = Checkpoints(workdir, best_by=run.config.train.best_by)
    number = checkpoints.choose("latest" if step == AVERAGE else step)
    averaged = tuple(checkpoints.averaged()) if step == AVERAGE else ()
    grid = build_mesh(1, 1, devices=jax.devices("cpu")[:1])
    tokenizer = load_tokenizer(workdir)
    blueprint = abstract_model(run.config.model, tokenizer.vocab_sizes, grid)
    own = pruned(run, pruning) if pruning else run
    smaller = abstract_model(own.config.model, tokenizer.vocab_sizes, grid)
    tensors = lay_out(smaller.params)
    made = Export(workdir, own, number, dtype, tokenizer, tensors, pruning, averaged)

    out.mkdir(parents=True, exist_ok=True)
    draft = out / UNFINISHED
    shutil.rmtree(draft, ignore_errors=True)  # left by an export that was killed
    _check_free_space(out, sum(_sizes(made).values()))
    draft.mkdir()
    try:
        write(draft, made, _read(checkpoints, made, blueprint))
        _flush(draft)
        for path in sorted(draft.iterdir(), key=lambda path: (path.name in _LAST, path.name)):
            os.replace(path, out / path.name)
    except DamagedError as error:
        others = ", ".join(str(other) for other in checkpoints.steps() if other != number)
        raise ExportError(f"{error}; other steps: {others or 'none'}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        checkpoints.close()
    return made


def _sizes(made: Export) -> dict[str, int]:
    """Returns the bytes of each array."""
    small = jnp.dtype(made.dtype).itemsize
    large = jnp.dtype(_read_dtype(made)).itemsize
    return {
        tensor.name: (small if made.is_quantized(tensor) else large) * math.prod(tensor.shape)
        for tensor in made.stored
    }


def _read_dtype(made: Export) -> str:
    """Returns the type of arrays before any are quantized."""
    return "float32" if made.dtype == INT8 else made.dtype


def _quantized(made: Export, arrays: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Yields what the files hold; the arrays come in the order of the tensors."""
    for tensor, array in zip(made.tensors, arrays, strict=True):
        if made.is_quantized(tensor):
            weight = quantize_weight(array, letters_of(tensor.name))
            yield np.asarray(weight.values)
            yield np.asarray(weight.scale)
        else:
            yield array


def check_empty(out: pathlib.Path) -> None:
    """Raises ExportError unless `out` is absent or an empty folder."""
    accepted = "accepted: an empty folder, or a new one"
    if out.exists() and not out.is_dir():
        raise ExportError(f"{out}: found a file, {accepted}")
    others = [path.name for path in sorted(out.glob("*")) if path.name != UNFINISHED]
    if others:
        raise ExportError(f"{out}: found {others[0]} in it, {accepted}")


def _flush(folder: pathlib.Path) -> None:
    """Returns once all files are on the disk, so that none is renamed before its content is."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _check_free_space(out: pathlib.Path, needed: int) -> None:
    free = shutil.disk_usage(out).free
    if free < needed:
        raise ExportError(
            f"{out}: the model needs {needed / 2**20:,.0f} MiB, {free / 2**20:,.0f} MiB are free; "
            "free some space or give another folder"
        )


def _read(checkpoints: Checkpoints, made: Export, blueprint: Blueprint) -> Iterator[np.ndarray]:
    """Yields the arrays of the layout; each parameter is freed before the next one is read."""
    step = AVERAGE if made.averaged else str(made.step)
    params = checkpoints.read_params(step, blueprint.params)
    for _, tensors in itertools.groupby(made.tensors, key=lambda tensor: tensor.leaf):
        whole = np.asarray(next(params))
        for tensor in tensors:
            part = whole if tensor.block is None else whole[tensor.block]
            if made.pruning:
                part = prune_array(tensor.name, part, made.pruning.kept)
            # safetensors writes the memory as it is and ignores strides.
            yield np.ascontiguousarray(part.astype(jnp.dtype(_read_dtype(made)), copy=False))
        del whole, part
