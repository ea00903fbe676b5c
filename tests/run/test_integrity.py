"""Checksums: the same on any mesh, another one for any change; replicas are compared."""
# SPDX-License-Identifier: Apache-2.0

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gshard_mt.errors import TrainingError
from gshard_mt.partitioning.mesh import build_mesh
from gshard_mt.partitioning.placement import sharding
from gshard_mt.run import integrity
from gshard_mt.run.integrity import check_copies, checksums, checksums_on_host

SHAPES = {"EMH": (8, 4, 6), "VM": (24, 4), "E": (8,), "": ()}


def reference(array: np.ndarray) -> int:
    """Word by word."""
    total = 0
    words = np.ravel(array).view(f"uint{8 * array.dtype.itemsize}")
    for place, word in enumerate(words.tolist()):
        total += word * ((place * 0x9E3779B1 * 2 + 1) % 2**32)
    return total % 2**32


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.int32])
@pytest.mark.parametrize("shape", [(1, 1), (1, 8), (2, 4), (4, 2), (2, 2, 2)])
def test_a_checksum_is_the_word_by_word_one_on_any_mesh(shape, dtype):
    rng = np.random.default_rng(0)
    devices = jax.devices()[: int(np.prod(shape))]
    mesh = build_mesh(*shape, devices=devices)
    arrays = {
        letters or "scalar": jax.device_put(
            jnp.asarray(100 * rng.normal(size=size)).astype(dtype),
            sharding(mesh, letters, len(size)),
        )
        for letters, size in SHAPES.items()
    }
    found = checksums({"tree": arrays})
    assert found == {
        f"tree/{name}": reference(np.atleast_1d(np.asarray(array)))
        for name, array in arrays.items()
    }
    assert checksums_on_host({"tree": arrays}) == found


def test_the_host_adds_many_words_piece_by_piece(monkeypatch):
    array = jnp.arange(1000, dtype=jnp.float32).reshape(8, 125)
    found = checksums_on_host([array])
    monkeypatch.setattr(integrity, "_WORDS", 64)
    assert checksums_on_host([array]) == found == {"0": reference(np.asarray(array))}


def test_every_bit_and_every_position_counts():
    mesh = build_mesh(1, 8)
    start = np.arange(64, dtype=np.float32).reshape(8, 8)

    def sum_of(array: np.ndarray) -> int:
        return checksums([jax.device_put(array, sharding(mesh, "EM", 2))])["0"]

    found = {sum_of(start)}
    for bit in range(32):
        changed = start.copy()
        changed.view(np.uint32)[3, 5] ^= 1 << bit
        found.add(sum_of(changed))
    found |= {sum_of(start[::-1]), sum_of(start.T), sum_of(np.roll(start, 1))}
    assert len(found) == 1 + 32 + 3


def test_copies_are_compared_bit_by_bit():
    mesh = build_mesh(2, 4)
    whole = sharding(mesh, "", 0)
    check_copies("norm", jax.device_put(jnp.float32(np.nan), whole))  # the same bits
    values = [jax.device_put(jnp.float32(n == 6), d) for n, d in enumerate(mesh.devices.flat)]
    odd = jax.make_array_from_single_device_arrays((), whole, values)
    with pytest.raises(TrainingError, match=r"^norm: cpu:6 .*and cpu:0 .*hold different copies"):
        check_copies("norm", odd)
