"""Times follow from the peaks: arithmetic by FLOPs, all-to-all by the torus's middle."""
# SPDX-License-Identifier: Apache-2.0

import pytest

from gshard_mt.partitioning.hardware import CHIPS, find_chip
from gshard_mt.plan.roofline import collective_seconds, roofline

V3 = CHIPS["TPU v3"]


def slow_all_to_all(num_bytes: float, side: int) -> float:
    """Counts what crosses the middle of a side x side torus, chip by chip, in one direction."""
    per_pair = 2 * num_bytes / side**2  # two devices a chip; bytes from a chip to each chip
    crossing = 0.0
    for start in range(side):
        for end in range(side):
            steps = (end - start) % side
            # The shorter way round; those half round go either way.
            share = 1.0 if steps < side / 2 else 0.5 if steps == side / 2 else 0.0
            crossed = {(start + step) % side for step in range(steps)} & {side // 2 - 1}
            crossing += share * len(crossed) * per_pair * side * side
    return crossing / side / V3.link_bytes_per_second  # over one link a row


@pytest.mark.parametrize("side", [4, 8, 16])
def test_all_to_all_is_bound_by_the_middle_of_the_torus(side):
    expected = slow_all_to_all(1e6, side)
    assert collective_seconds("all-to-all", 1e6, V3, (side, side)) == pytest.approx(expected)


def test_all_to_all_grows_with_the_side_and_all_reduce_does_not():
    grids = [(8, 8), (32, 32)]
    small, large = (collective_seconds("all-to-all", 1e6, V3, grid) for grid in grids)
    assert large == pytest.approx(4 * small)
    small, large = (collective_seconds("all-reduce", 1e6, V3, grid) for grid in grids)
    assert small == large == pytest.approx(2e6 / (4 * 82e9))


def test_a_step_takes_the_longer_of_arithmetic_and_memory_and_all_that_is_sent():
    line = roofline(V3, (8, 8), 61.5e9, 450e6 / 2, {"all-reduce": 4 * 82e6 / 2})
    assert line.compute_seconds == pytest.approx(1e-3) and line.memory_seconds == pytest.approx(
        0.5e-3
    )
    assert line.step_seconds == pytest.approx(2e-3)
    assert roofline(V3, (8, 8), 61.5e9, 9e8, {}).bound_by == "memory"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("TPU v5", "TPU v5p"),
        ("TPU v5 lite", "TPU v5e"),
        ("NVIDIA H100 80GB HBM3", "NVIDIA H100"),
        ("cpu", None),
    ],
)
def test_a_chip_is_known_by_what_its_devices_call_themselves(kind, name):
    chip = find_chip(kind)
    assert (chip and chip.name) == name
