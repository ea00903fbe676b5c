"""What one process of many has to know: whether it writes, which rows it feeds, who disagrees."""
# SPDX-License-Identifier: Apache-2.0

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gshard_mt.errors import ConfigError


def is_writer() -> bool:
    """Says whether this process writes files and lines of the terminal: process 0 does."""
    return jax.process_index() == 0


class Rows(NamedTuple):
    """How the rows of a batch are shared among the devices of all processes."""

    own: np.ndarray  # ascending, those of this process's devices; not always side by side
    num_rows: int
    sharding: NamedSharding


def share_rows(sharding: NamedSharding, num_rows: int) -> Rows:
    """Returns who holds which rows. Processes that `mesh.model` joins hold the same ones."""
    held = sharding.addressable_devices_indices_map((num_rows, 1))
    own = [np.arange(num_rows)[index[0]] for index in held.values() if index]
    return Rows(np.unique(np.concatenate(own)), num_rows, sharding)


def place_rows(batch: Any, rows: Rows) -> Any:
    """Returns a batch on the devices of all processes, of which this one has its own rows.

    Arrays [own rows, ...] become global ones [all rows, ...]. Nothing is sent: every process has
    its own and calls this too.
    """

    def place(array: np.ndarray) -> jax.Array:
        def cut(index) -> np.ndarray:
            return array[np.searchsorted(rows.own, np.arange(rows.num_rows)[index[0]])]

        shape = (rows.num_rows, *array.shape[1:])
        return jax.make_array_from_callback(shape, rows.sharding, cut)

    return jax.tree.map(place, batch)


def check_agreement(texts: Mapping[str, str]) -> None:
    """Raises ConfigError on all processes where one has another text than process 0 has.

    Every process calls it with the same names; `{"--config": ...}` says what the text is of.
    """
    if jax.process_count() == 1:
        return
    digests = [hashlib.sha256(text.encode()).digest() for text in texts.values()]
    own = np.frombuffer(b"".join(digests), np.uint8).reshape(len(texts), -1)
    found = np.asarray(multihost_utils.process_allgather(own))  # processes x texts x bytes
    is_other = (found != found[0]).any(axis=2)
    for name, is_other_here in zip(texts, is_other.T, strict=True):
        if is_other_here.any():
            processes = ", ".join(map(str, np.flatnonzero(is_other_here)))
            raise ConfigError(
                f"{name}: process {processes} of {len(found)} has another than process 0; "
                "give all processes the same"
            )


def all_say(is_so: bool) -> bool:
    """Says whether all processes do; each of them calls it, and waits for the others."""
    if jax.process_count() == 1:
        return is_so
    return bool(np.all(multihost_utils.process_allgather(np.array(is_so))))


class Poll:
    """Whether any process says yes to some questions, asked at every step without waiting.

    Of many processes all get the same answers at the same call: those to what was asked one call
    before, which the devices have found meanwhile.
    """

    def __init__(self, mesh: Mesh, num_questions: int):
        self._is_alone = jax.process_count() == 1
        self._shape = (mesh.size, num_questions)
        self._own = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        whole = NamedSharding(mesh, PartitionSpec())
        self._any = jax.jit(lambda asked: jnp.any(asked, axis=0), out_shardings=whole)
        self._asked: jax.Array | None = None

    def __call__(self, *own: bool) -> list[bool]:
        """Asks, and returns the last answers; none says yes before the first."""
        if self._is_alone:
            return list(own)
        row = np.array([own])
        asked = jax.make_array_from_callback(self._shape, self._own, lambda index: row)
        last, self._asked = self._asked, self._any(asked)
        return [False] * len(own) if last is None else np.asarray(last).tolist()
