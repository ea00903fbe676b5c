"""Every TPU family has a topology, a mesh and a plan; only the benchmark compiles for them."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses

import pytest

from benchmarks import topologies
from gshard_mt.partitioning.hardware import find_chip
from gshard_mt.plan.topology import GENERATIONS, parse_topology


def test_every_family_is_compiled_for():
    families = [name.partition(":")[0] for name in topologies.TOPOLOGIES]
    assert families == list(GENERATIONS)


@pytest.mark.parametrize("name", topologies.TOPOLOGIES)
def test_every_family_has_a_plan_without_a_compiler(name):
    topology = parse_topology(name)
    assert topology.chip and topology.chip == find_chip(GENERATIONS[name.partition(":")[0]])
    found = topologies.plan(name, False, num_chunks=2)
    assert found.devices == topology.num_devices == 8 and found.mesh["expert"] == 8
    assert found.chip == topology.chip.name
    assert found.memory_bytes == topology.chip.memory_bytes / topology.chip.devices
    assert found.roofline and found.roofline.communication_seconds["all-to-all"] > 0
    compiled = dataclasses.replace(found, collective_instructions={"all-to-all": 8})
    assert topologies.row(compiled, found)["estimated_all_to_all"] == 1
