"""Two slices take the step of one; between them go sums of gradients, and no expert's tokens."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses

import jax
import numpy as np
import pytest

from gshard_mt.partitioning.mesh import build_mesh
from gshard_mt.plan.groups import read_groups, slice_of_devices
from tests.collectives import COLLECTIVE
from tests.train.one_step import assert_equal, lower
from tests.train.test_shard_parameters import BATCH, make_config


def run(mesh):
    """Returns gradient, sums and new parameters, and the compiled program."""
    config = make_config(shard_parameters=True)
    config.model = dataclasses.replace(config.model, num_layers=4, remat="none")
    lowered, arguments = lower(config, mesh, BATCH, jax.random.key(0))
    compiled = lowered.compile()
    return jax.device_get(compiled(*arguments)), compiled


@pytest.fixture(scope="module")
def of_two():
    return run(build_mesh(1, 2, 2, dcn_data=2))


@pytest.fixture(scope="module")
def of_one():
    return run(build_mesh(1, 2, 2, devices=jax.devices()[:4]))


def test_two_slices_take_the_step_of_one(of_two, of_one):
    assert_equal(of_two[0], of_one[0])


def test_only_all_reduces_cross_slices(of_two):
    slices = np.array(slice_of_devices(build_mesh(1, 2, 2, dcn_data=2)))
    assert slices.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    crossing, inside = set(), set()
    for line in of_two[1].as_text().splitlines():
        if match := COLLECTIVE.search(line):
            of_groups = slices[read_groups(line, len(slices))]
            crosses = (of_groups != of_groups[:, :1]).any()
            (crossing if crosses else inside).add(match[2])
    assert crossing == {"all-reduce"}
    assert {"all-to-all", "all-gather"} <= inside
