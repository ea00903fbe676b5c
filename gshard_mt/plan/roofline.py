"""The roofline: the shortest possible time of a step, from the hardware's peak rates."""
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gshard_mt.partitioning.hardware import Chip


class Roofline(NamedTuple):
    """The time of one step: compute and memory traffic overlap, communication doesn't."""

    compute_seconds: float
    memory_seconds: float
    communication_seconds: dict[str, float]  # by kind of collective; dcn: between slices

    @property
    def step_seconds(self) -> float:
        longer = max(self.compute_seconds, self.memory_seconds)
        return longer + sum(self.communication_seconds.values())

    @property
    def seconds(self) -> dict[str, float]:
        """The times of all parts by name."""
        both = {"compute": self.compute_seconds, "memory": self.memory_seconds}
        return both | self.communication_seconds

    @property
    def bound_by(self) -> str:
        return max(self.seconds, key=self.seconds.__getitem__)


def roofline(
    chip: Chip,
    grid: Sequence[int],
    flops: float,
    memory_bytes: float,
    collectives: Mapping[str, float],
    dcn_bytes: float = 0.0,
) -> Roofline:
    """Returns the times of one device's FLOPs, memory bytes, and bytes by kind of collective.

    Those of `dcn_bytes`, which it sends to other slices, are left out where the rate isn't known.
    """
    moved = {kind: collective_seconds(kind, size, chip, grid) for kind, size in collectives.items()}
    if dcn_bytes and chip.dcn_bytes_per_second:
        moved["dcn"] = dcn_bytes * chip.devices / chip.dcn_bytes_per_second
    return Roofline(
        flops * chip.devices / chip.flops_per_second,
        memory_bytes * chip.devices / chip.memory_bytes_per_second,
        moved,
    )


def collective_seconds(kind: str, num_bytes: float, chip: Chip, grid: Sequence[int]) -> float:
    """Returns the seconds of a collective over all chips that delivers `num_bytes` to each device.

    On a torus an all-to-all is bound by the bisection: a quarter of all N devices' bytes cross it
    in each direction, over 2 N / k links if the longest side has k chips. The time grows with k,
    the square root of N on a square torus (GShard, section 5). An all-reduce and its two halves
    use all links at once, so their time doesn't depend on N.
    """
    link = chip.link_bytes_per_second
    if not chip.torus_axes:
        return num_bytes * chip.devices / link * (2.0 if kind == "all-reduce" else 1.0)
    if kind == "all-to-all":
        return num_bytes * chip.devices * max(grid) / (8.0 * link)
    num_links = 2.0 * sum(1 for size in grid if size > 1) or 1.0
    if kind == "collective-permute":
        return num_bytes * chip.devices / link
    return num_bytes * (2.0 if kind == "all-reduce" else 1.0) / (num_links * link)
