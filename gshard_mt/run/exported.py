"""Exported models: reads back the folders that gshard-export writes, in place of a run or not."""
# SPDX-License-Identifier: Apache-2.0

import contextlib
import hashlib
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import safetensors

from gshard_mt.config.keys import from_json
from gshard_mt.config.records import Config
from gshard_mt.documents import in_one_line, read_json
from gshard_mt.errors import CheckpointError
from gshard_mt.partitioning.axes import SUMMED, letters_of, scale_letters
from gshard_mt.run.directory import EarlierData, Origin, Run, read_run
from gshard_mt.run.mirror import find_mirror

FORMAT, FORMAT_VERSION = "gshard-mt", 1
INT8 = "int8"  # the `dtype` of an export whose weights have 8 bits
_REMEDY = "export the run again"
# Sections of the config that an export records, and their keys: without names, all of them.
SECTIONS: dict[str, tuple[str, ...]] = {
    "model": (),
    "decode": (),
    "data": ("temperature", "source_length"),
    "train": ("stages",),
}


class ExportedModel(NamedTuple):
    """What `config.json` of an exported model says; the tokenizer is next to it."""

    folder: pathlib.Path
    config: Config  # of the run, as far as it is recorded: see SECTIONS
    step: int
    dtype: str  # of the arrays in the files

    def checksum(self) -> str:
        """Returns the first digits of the SHA-256 of all files with arrays."""
        digest = hashlib.sha256()
        with self._reading():
            for path in self._files():
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()[:16]

    def check_shapes(self, expected: dict[str, tuple[int, ...]]) -> None:
        """Raises CheckpointError if the files don't have these arrays, or are damaged."""
        expected, found = dict(expected), {}
        with self._reading():
            for path in self._files():
                with safetensors.safe_open(path, framework="flax") as file:
                    for name in file.keys():
                        array = file.get_slice(name)
                        found[name] = tuple(array.get_shape())
                        if array.get_dtype() == "I8" and name in expected:
                            expected |= _scale(name, expected[name])
        for name in sorted({*expected, *found}):
            if expected.get(name) != found.get(name):
                raise CheckpointError(
                    f"{self.folder}: found array {name} {found.get(name, 'missing')}, not "
                    f"{expected.get(name, 'none')}; {_REMEDY}"
                )

    def read(self, names: Sequence[str]) -> Iterator[np.ndarray]:
        """Yields arrays as float32, whatever their type is. Raises CheckpointError."""
        with self._arrays() as read:
            for name in names:
                array = read(name)
                if array.dtype == np.int8:
                    letters = letters_of(name)
                    axes = [letters.index(letter) for letter in SUMMED[letters]]
                    array = array * np.expand_dims(read(scale_name(name)), axes)
                yield array.astype(np.float32)

    def read_stored(self, names: Sequence[str]) -> Iterator[np.ndarray]:
        """Yields arrays as they are in the files. Raises CheckpointError."""
        with self._arrays() as read:
            yield from map(read, names)

    @contextlib.contextmanager
    def _arrays(self) -> Iterator[Callable[[str], np.ndarray]]:
        with contextlib.ExitStack() as stack, self._reading():
            files = {}
            for path in self._files():
                file = stack.enter_context(safetensors.safe_open(path, framework="flax"))
                files |= dict.fromkeys(file.keys(), file)
            yield lambda name: np.asarray(files[name].get_tensor(name))

    def _files(self) -> list[pathlib.Path]:
        if mirror := find_mirror(self.folder):
            mirror.fetch("model")
        files = sorted(self.folder.glob("model*.safetensors"))
        if not files:
            raise FileNotFoundError("no model.safetensors")
        return files

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (OSError, KeyError, safetensors.SafetensorError) as error:
            raise CheckpointError(
                f"{self.folder}: can't be read ({in_one_line(error)}); {_REMEDY}"
            ) from error


def scale_name(name: str) -> str:
    """Returns the name of the scale of an array of 8 bits: `wq_MND.scale_ND` for `wq_MND`."""
    return f"{name}.scale_{scale_letters(letters_of(name))}"


def _scale(name: str, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    letters = letters_of(name)
    sizes = dict(zip(letters, shape, strict=True))
    return {scale_name(name): tuple(sizes[letter] for letter in scale_letters(letters))}


def is_export(folder: pathlib.Path) -> bool:
    """Returns whether a folder is an exported model, and not a run directory or anything else."""
    try:
        content: Any = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return any(folder.glob("model*.safetensors"))
    return isinstance(content, dict) and content.get("format") == FORMAT


def read_trained(folder: pathlib.Path) -> Run:
    """Returns what a run directory or an exported model records. Raises CheckpointError.

    Of an exported model, `data_dir` is the folder itself: where the data are is not recorded.
    """
    if not is_export(folder):
        return read_run(folder)
    config, path = read_export(folder).config, folder / "config.json"
    record = read_json(path, FORMAT_VERSION, CheckpointError, _REMEDY)
    try:
        origin = Origin(**record["init_from"]) if record["init_from"] else None
        train_pairs = {pair: int(number) for pair, number in record["train_pairs"].items()}
        earlier = tuple(
            EarlierData(each["data_fingerprint"], each["last_step"], None)
            for each in record.get("earlier_data", ())  # older versions have none
        )
        return Run(config, folder, record["data_fingerprint"], train_pairs, origin, earlier)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: incomplete ({error!r}); {_REMEDY}") from None


def read_export(folder: pathlib.Path) -> ExportedModel:
    """Reads the `config.json` of an exported model. Raises CheckpointError if it can't be."""
    path = folder / "config.json"
    record = read_json(path, FORMAT_VERSION, CheckpointError, _REMEDY)
    try:
        # Those with names are left out by older versions.
        sections = [name for name, keys in SECTIONS.items() if not keys or name in record]
        config = from_json({name: record[name] for name in sections})
        return ExportedModel(folder, config, record["step"], record["dtype"])
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: incomplete ({error!r}); {_REMEDY}") from None
