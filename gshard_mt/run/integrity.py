"""Integrity of checkpoints: signed records, checksums of sharded arrays, copies that agree."""
# SPDX-License-Identifier: Apache-2.0

import functools
import hashlib
import json
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gshard_mt.errors import TrainingError
from gshard_mt.partitioning.axes import names

_MIX = 0x9E3779B1  # 2^32 over the golden ratio: neighbors get weights far apart
_WEIGHT_STEP = 2 * _MIX % (1 << 32)
_WORDS = 1 << 16  # added at a time on the host, so that they stay in the processor's cache


def sign(record: dict[str, Any]) -> dict[str, Any]:
    """Returns a record of plain values together with its SHA-256."""
    return {"record": record, "sha256": _digest(record)}


def check_signature(signed: Any) -> dict[str, Any]:
    """Returns the record in what `sign` made. Raises ValueError if it was altered."""
    if _digest(signed["record"]) != signed["sha256"]:
        raise ValueError("not what was saved (its SHA-256 differs)")
    return signed["record"]


def check_shapes(found: Any, expected: Any) -> None:
    """Raises ValueError where the arrays of two trees differ in shape or type."""
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        if (one.shape, one.dtype) != (other.shape, np.dtype(other.dtype)):
            raise ValueError(f"found {one.dtype}{one.shape}, not {other.dtype}{other.shape}")


def check_sums(tree: Any, expected: dict[str, int]) -> None:
    """Raises ValueError where the checksum of an array is not the expected one.

    CPU devices of one process share their memory with NumPy, which has nothing to compile.
    """
    leaves = jax.tree.leaves(tree)
    is_on_host = all(each.is_fully_addressable for each in leaves) and all(
        device.platform == "cpu" for each in leaves for device in each.devices()
    )
    for name, found in (checksums_on_host if is_on_host else checksums)(tree).items():
        if found != expected.get(name):
            raise ValueError(
                f"{name} is not what was saved (its checksum is {found:08x}, not "
                f"{expected.get(name, 0):08x})"
            )


def checksums(tree: Any) -> dict[str, int]:
    """Returns a 32-bit checksum of every array in a tree, by its path, on any mesh the same.

    Every word has an odd weight given by its position, so a changed or moved word changes the sum.
    Computed where the arrays are. Raises TrainingError where devices hold different copies of the
    same part: one of them computes wrongly.
    """
    leaves = jax.tree.flatten_with_path(tree)[0]
    if not leaves:
        return {}
    arrays = [array for _, array in leaves]
    mesh = arrays[0].sharding.mesh
    specs = tuple(array.sharding.spec for array in arrays)
    sums = np.asarray(_sum_shards(arrays, specs, mesh)).reshape(len(leaves), -1)
    found = {}
    for (path, array), sums_of in zip(leaves, sums, strict=True):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        part_of = _parts(array.sharding, array.shape)
        _, first = np.unique(part_of, return_index=True)
        (odd,) = np.nonzero(sums_of != sums_of[first][part_of])
        if len(odd):
            devices = [mesh.devices.flat[index] for index in (odd[0], first[part_of[odd[0]]])]
            one, other = (f"{device} (process {device.process_index})" for device in devices)
            raise TrainingError(_disagreement(name, one, other))
        found[name] = int(sums_of[first].sum(dtype=np.uint32))
    return found


def checksums_on_host(tree: Any) -> dict[str, int]:
    """Returns what `checksums` does, of arrays that this process holds; copies aren't compared."""
    leaves = jax.tree.flatten_with_path(tree)[0]
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): _sum_on_host(_on_host(array))
        for path, array in leaves
    }


def check_copies(name: str, array: jax.Array) -> None:
    """Raises TrainingError where devices hold different bits of a replicated array."""
    copies = [(str(shard.device), np.asarray(shard.data)) for shard in array.addressable_shards]
    if jax.process_count() > 1:
        of_all = multihost_utils.process_allgather(copies[0][1])
        copies += [(f"process {number}", copy) for number, copy in enumerate(of_all)]
    for device, copy in copies[1:]:
        if copy.tobytes() != copies[0][1].tobytes():
            raise TrainingError(_disagreement(name, device, copies[0][0]))


def _on_host(array: jax.Array) -> np.ndarray:
    """Returns the whole array; JAX would keep the copy that it makes of several parts."""
    if array.is_fully_replicated:
        return np.asarray(array.addressable_shards[0].data)
    whole = np.empty(array.shape, array.dtype)
    for shard in array.addressable_shards:
        if shard.replica_id == 0:
            whole[shard.index] = shard.data
    return whole


def _sum_on_host(array: np.ndarray) -> int:
    words = np.ravel(array).view(f"uint{8 * array.dtype.itemsize}")
    first_weights = np.arange(_WORDS, dtype=np.uint32) * np.uint32(_WEIGHT_STEP) + np.uint32(1)
    total = 0
    for start in range(0, len(words), _WORDS):
        part = words[start : start + _WORDS].astype(np.uint32, copy=False)
        weights = first_weights[: len(part)] + np.uint32(start * _WEIGHT_STEP % (1 << 32))
        total += int(np.dot(part, weights))
    return total % (1 << 32)


def _digest(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _disagreement(name: str, one: str, other: str) -> str:
    return (
        f"{name}: {one} and {other} hold different copies; one of them computes wrongly: remove it "
        "and run the same command, which resumes from the last checkpoint"
    )


@functools.partial(jax.jit, static_argnums=(1, 2))
def _sum_shards(arrays: list[jax.Array], specs: tuple[PartitionSpec, ...], mesh: Mesh) -> jax.Array:
    """Returns each device's sum over its own part of every array: uint32 [arrays, *mesh]."""

    def sum_own(*parts: jax.Array) -> jax.Array:
        sums = [_sum_part(part, spec, mesh) for part, spec in zip(parts, specs, strict=True)]
        return jnp.stack(sums).reshape(-1, *(1 for _ in mesh.axis_names))

    run = jax.shard_map(
        sum_own,
        mesh=mesh,
        in_specs=specs,
        out_specs=PartitionSpec(None, *mesh.axis_names),
        check_vma=False,
    )
    whole = NamedSharding(mesh, PartitionSpec())
    return jax.lax.with_sharding_constraint(run(*arrays), whole)


@functools.partial(jax.jit, static_argnums=(1, 2))  # traced once for arrays of the same shape
def _sum_part(part: jax.Array, spec: PartitionSpec, mesh: Mesh) -> jax.Array:
    entries = (*spec, *(None for _ in range(part.ndim - len(spec))))
    index = jnp.zeros(part.shape, jnp.uint32)  # in the whole array, in row-major order
    stride = 1
    for axis in reversed(range(part.ndim)):
        own = jax.lax.broadcasted_iota(jnp.uint32, part.shape, axis)
        axes = names(entries[axis])
        if axes:
            own += jnp.uint32(part.shape[axis]) * jax.lax.axis_index(axes).astype(jnp.uint32)
        index += own * jnp.uint32(stride % (1 << 32))
        stride *= part.shape[axis] * math.prod(mesh.shape[name] for name in axes)
    word = jax.lax.bitcast_convert_type(part, jnp.dtype(f"uint{8 * part.dtype.itemsize}"))
    weight = index * jnp.uint32(_WEIGHT_STEP) + jnp.uint32(1)
    return jnp.sum(word.astype(jnp.uint32) * weight, dtype=jnp.uint32)


@functools.cache
def _parts(sharding: NamedSharding, shape: tuple[int, ...]) -> np.ndarray:
    """Returns for every device of the mesh, in order, the number of the part that it holds."""
    held = sharding.devices_indices_map(shape)
    keys = [str(slices) for slices in held.values()]
    return np.unique(keys, return_inverse=True)[1].reshape(-1)
