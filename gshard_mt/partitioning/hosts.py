"""One process among many: whether it writes, which rows it feeds, whether all processes agree."""
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
    """Returns whether this process writes files and to the terminal: process 0 does."""
    return jax.process_index() == 0


class BatchRows(NamedTuple):
    """The distribution of a batch's rows over the devices of all processes."""

    own: np.ndarray  # ascending, those of this process's devices; not always contiguous
    num_rows: int
    sharding: NamedSharding


def share_rows(sharding: NamedSharding, num_rows: int) -> BatchRows:
    """Returns this process's rows. Processes that share a `mesh.model` group have the same ones."""
    held = sharding.addressable_devices_indices_map((num_rows, 1))
    own = [np.arange(num_rows)[index[0]] for index in held.values() if index]
    return BatchRows(np.unique(np.concatenate(own)), num_rows, sharding)


def make_global(batch: Any, rows: BatchRows) -> Any:
    """Returns a batch on the devices of all processes, made of each process's own rows.

    Arrays [own rows, ...] become global arrays [all rows, ...]. Nothing is sent: every process
    calls this with its own rows.
    """

    def to_global(array: np.ndarray) -> jax.Array:
        def cut(index) -> np.ndarray:
            return array[np.searchsorted(rows.own, np.arange(rows.num_rows)[index[0]])]

        shape = (rows.num_rows, *array.shape[1:])
        return jax.make_array_from_callback(shape, rows.sharding, cut)

    return jax.tree.map(to_global, batch)


def place(array: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """Returns an array on the devices of all processes, each of which has all of it on the host."""
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def gather(arrays: Any) -> Any:
    """Returns a tree of arrays on the devices of all processes as NumPy arrays, in each process."""
    if jax.process_count() == 1:
        return jax.device_get(arrays)
    return multihost_utils.process_allgather(arrays, tiled=True)


def check_agreement(texts: Mapping[str, str]) -> None:
    """Raises ConfigError on all processes if a text differs from that of process 0.

    Every process calls it with the same names, such as `--config` in `{"--config": ...}`.
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
                f"{name}: process {processes} of {len(found)} differs from process 0; "
                "give all processes the same"
            )


def all_true(is_true: bool) -> bool:
    """Returns whether it is true on all processes; each one calls it and waits for the others."""
    if jax.process_count() == 1:
        return is_true
    return bool(np.all(multihost_utils.process_allgather(np.array(is_true))))


class Poll:
    """Answers at every step, without waiting, whether any process requests something.

    All processes get the same answers at the same call: those to the previous call's questions,
    which the devices have computed in the meantime. JAX's `reached_preemption_sync_point` does this
    for SIGTERM on many processes; this also serves one process, SIGINT and a clock.
    """

    def __init__(self, mesh: Mesh, num_questions: int):
        self._is_alone = jax.process_count() == 1
        self._shape = (mesh.size, num_questions)
        self._own = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        whole = NamedSharding(mesh, PartitionSpec())
        self._any = jax.jit(lambda asked: jnp.any(asked, axis=0), out_shardings=whole)
        self._asked: jax.Array | None = None

    def __call__(self, *own: bool) -> list[bool]:
        """Asks, and returns the answers to the previous call; all are False at first."""
        if self._is_alone:
            return list(own)
        row = np.array([own])
        asked = jax.make_array_from_callback(self._shape, self._own, lambda index: row)
        last, self._asked = self._asked, self._any(asked)
        return [False] * len(own) if last is None else np.asarray(last).tolist()
