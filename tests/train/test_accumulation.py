"""Micro-batches add up to the batch: loss, gradients, counters, on a mesh too."""
# SPDX-License-Identifier: Apache-2.0

import collections
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gshard_mt.config.records import Config
from gshard_mt.data.batches import Batch
from gshard_mt.model.layers import dropout
from gshard_mt.partitioning.mesh import build_mesh
from gshard_mt.partitioning.placement import sharding
from gshard_mt.train.accumulation import add_up, cut_batch, unit_rows
from tests.collectives import find_collectives
from tests.model import tiny
from tests.train.one_step import assert_equal, lower

LENGTH, NUM_ROWS, NUM_PAIRS = 16, 64, 2


def make_config(num_parts: int) -> Config:
    """Too few slots, two rows to a group."""
    config = Config()
    config.model = tiny.with_moe(
        tiny.MOE, num_experts=8, group_size=32, capacity_factor=1.0, z_loss_weight=0.1
    )
    config.model.moe.aux_loss_weight = 0.5
    config.train.accumulation_steps = num_parts
    return config


def make_batch() -> Batch:
    """Rows filled very differently, in two language pairs."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 14, (NUM_ROWS, 2))
    lengths[3] = 1
    rows = [[tiny.sentence(row, *lengths[row])] for row in range(NUM_ROWS)]
    pair_BL = np.tile(rng.integers(0, NUM_PAIRS, (NUM_ROWS, 1)).astype(np.int32), (1, LENGTH))
    return tiny.pack(rows, LENGTH)._replace(source_pair_BL=pair_BL, target_pair_BT=pair_BL)


def make_mesh(num_devices: int):
    return tiny.one_device() if num_devices == 1 else build_mesh(2, 4)


@functools.cache
def run(num_devices: int, num_parts: int):
    """Returns gradient and sums, and the text of the compiled program."""
    config, mesh = make_config(num_parts), make_mesh(num_devices)
    lowered, arguments = lower(config, mesh, make_batch(), None, NUM_PAIRS, is_updated=False)
    compiled = lowered.compile()
    return jax.device_get(compiled(*arguments)), compiled.as_text()


def test_four_micro_batches_on_eight_devices_equal_one_batch_on_one():
    (found, _), (wanted, _) = run(8, 4), run(1, 1)
    assert_equal(found, wanted)
    token_loss, aux_loss, routing = wanted[1]
    num_target = np.count_nonzero(make_batch().target_segment_BT)
    assert token_loss.num_tokens == num_target == routing["decoder"].num_tokens_X.sum()
    assert np.all(routing["decoder"].num_tokens_X > 0)  # both pairs
    assert aux_loss > 1


def test_every_micro_batch_draws_its_own_numbers_and_they_do_not_depend_on_the_mesh():
    """That a model's numbers depend on its key alone is in test_step.py."""
    batch, key = make_batch(), jax.random.key(0)

    def draw(part: Batch, key):
        return dropout(part.label_BT.astype(jnp.float32), 0.5, key)

    def add(batch: Batch, key):
        return add_up(draw, cut_batch(batch, 4, unit=2), key)

    found = []
    for num_devices in (1, 8):
        mesh = make_mesh(num_devices)
        with jax.set_mesh(mesh):
            placed = jax.device_put(batch, sharding(mesh, "BL", 2))
            found.append(jax.device_get(jax.jit(add)(placed, key)))
    parts = batch.label_BT.reshape(-1, 4, 2, LENGTH).swapaxes(0, 1).reshape(4, -1, LENGTH)
    drawn = [
        np.asarray(draw(batch._replace(label_BT=part), part_key))
        for part, part_key in zip(parts, jax.random.split(key, 4), strict=True)
    ]
    np.testing.assert_array_equal(found[0], sum(drawn))
    np.testing.assert_array_equal(found[1], found[0])


def test_rows_stay_on_their_devices():
    found = collections.Counter(kind for kind, _ in find_collectives(run(8, 4)[1]))
    # Tokens go to the experts of the two MoE layers and back, gradients return the same way.
    assert found.pop("all-to-all") == 2 * 4
    assert found.keys() == {"all-reduce"}


def test_the_program_does_not_grow_with_the_number_of_micro_batches():
    lengths = []
    for num_parts in (2, 16):
        config = dataclasses.replace(make_config(num_parts), model=tiny.DENSE)
        lowered, _ = lower(config, make_mesh(1), make_batch(), None, NUM_PAIRS, is_updated=False)
        lengths.append(lowered.as_text().count("\n"))
    # Equal sizes share a function here and there.
    assert abs(lengths[0] - lengths[1]) < 0.02 * lengths[0]


@pytest.mark.parametrize(("group_size", "unit"), [(4, 1), (12, 3), (16, 1), (32, 2)])
def test_the_groups_of_the_micro_batches_are_those_of_the_batch(group_size, unit):
    batch = make_batch()
    assert unit_rows(batch, group_size) == unit
    rows_BL = np.arange(48 * LENGTH).reshape(48, LENGTH)
    batch = Batch(*(jnp.asarray(rows_BL) for _ in Batch._fields))

    def groups(rows_BL) -> set:
        return {tuple(map(int, group)) for group in np.reshape(rows_BL, (-1, group_size))}

    parts = cut_batch(batch, 4, unit).label_BT
    assert parts.shape == (4, 12, LENGTH)
    found = [groups(part_BL) for part_BL in parts]
    assert set().union(*found) == groups(rows_BL)
    assert [len(part) for part in found] == [12 * LENGTH // group_size] * 4
