"""Writes arrays to safetensors: one file, or several with an index, as Hugging Face does."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
from collections.abc import Iterable, Mapping

import numpy as np
import safetensors
import safetensors.numpy

from gshard_mt.documents import write_json
from gshard_mt.errors import ExportError

INDEX = "model.safetensors.index.json"
MAX_BYTES = 2 << 30  # of arrays per file, unless a single one is larger


def write_tensors(
    folder: pathlib.Path,
    sizes: Mapping[str, int],
    arrays: Iterable[np.ndarray],
    metadata: Mapping[str, str],
    max_bytes: int = MAX_BYTES,
) -> None:
    """Writes arrays that come in the order of `sizes` (name -> bytes), one file at a time.

    With several files, the index is written last. Raises ExportError if a file can't be written.
    """
    files = split(sizes, max_bytes)
    arrays = iter(arrays)
    file_of: dict[str, str] = {}
    for number, names in enumerate(files, 1):
        several = f"-{number:05d}-of-{len(files):05d}" if len(files) > 1 else ""
        path = folder / f"model{several}.safetensors"
        _write(path, {name: next(arrays) for name in names}, metadata)
        file_of |= dict.fromkeys(names, path.name)
    if len(files) > 1:
        index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": file_of}
        write_json(folder / INDEX, index, indent=2)


def split(sizes: Mapping[str, int], max_bytes: int) -> list[list[str]]:
    """Returns the names for each file, in order; an array above `max_bytes` has its own file."""
    files: list[list[str]] = [[]]
    room = max_bytes
    for name, size in sizes.items():
        if size > room and files[-1]:
            files.append([])
            room = max_bytes
        files[-1].append(name)
        room -= size
    return files


def _write(path: pathlib.Path, held: dict[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    path.touch()
    mode = path.stat().st_mode  # that of any new file; safetensors sets 0600
    try:
        safetensors.numpy.save_file(held, path, dict(metadata))
    except safetensors.SafetensorError as error:  # it has no errno, unlike OSError
        raise ExportError(
            f"{path}: can't be written ({error}); free some space and run the same command again"
        ) from error
    path.chmod(mode)
