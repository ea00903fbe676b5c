"""Arrays in safetensors files: one file, or several with an index, as Hugging Face names them."""
# SPDX-License-Identifier: Apache-2.0

import os
import pathlib
from collections.abc import Iterable, Mapping

import numpy as np
import safetensors
import safetensors.numpy

from gshard_mt.documents import write_json
from gshard_mt.errors import ExportError

INDEX = "model.safetensors.index.json"
MOST_BYTES = 2 << 30  # of the arrays of one file, unless one of them alone is larger


def write_tensors(
    folder: pathlib.Path,
    sizes: Mapping[str, int],
    arrays: Iterable[np.ndarray],
    metadata: Mapping[str, str],
    most_bytes: int = MOST_BYTES,
) -> None:
    """Writes arrays that come in the order of `sizes` (name -> bytes), a file's at a time.

    The index, where there are several files, is written last. Raises ExportError where there is no
    room for one.
    """
    files = split(sizes, most_bytes)
    coming = iter(arrays)
    places: dict[str, str] = {}
    for number, names in enumerate(files, 1):
        several = f"-{number:05d}-of-{len(files):05d}" if len(files) > 1 else ""
        path = folder / f"model{several}.safetensors"
        _write(path, {name: next(coming) for name in names}, metadata)
        places |= dict.fromkeys(names, path.name)
    if len(files) > 1:
        index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": places}
        write_json(folder / INDEX, index, indent=2)


def split(sizes: Mapping[str, int], most_bytes: int) -> list[list[str]]:
    """Returns the names for each file, in order, a file being full at `most_bytes`.

    What is larger has a file of its own.
    """
    files: list[list[str]] = [[]]
    room = most_bytes
    for name, size in sizes.items():
        if size > room and files[-1]:
            files.append([])
            room = most_bytes
        files[-1].append(name)
        room -= size
    return files


def _write(path: pathlib.Path, held: dict[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    path.touch()
    mode = path.stat().st_mode  # as every new file's; safetensors puts one there for us alone
    try:
        safetensors.numpy.save_file(held, path, dict(metadata))
    except safetensors.SafetensorError as error:  # has no number as an OSError has
        raise ExportError(
            f"{path}: can't be written ({error}); make room, the same command begins anew"
        ) from error
    path.chmod(mode)
    with path.open("rb") as file:
        os.fsync(file.fileno())
