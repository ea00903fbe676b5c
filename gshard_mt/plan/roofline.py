"""The roofline: how long a step takes at best, by the peaks of the hardware."""
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gshard_mt.partitioning.hardware import Chip


class Roofline(NamedTuple):
    """Seconds of one step. Arithmetic hides what memory takes, or the other way round; nothing
    hides communication."""

    compute: float
    memory: float
    communication: dict[str, float]  # by kind of collective

    @property
    def step(self) -> float:
        return max(self.compute, self.memory) + sum(self.communication.values())

    @property
    def bound_by(self) -> str:
        seconds = {"compute": self.compute, "memory": self.memory, **self.communication}
        return max(seconds, key=lambda name: seconds[name])


def roofline(
    chip: Chip,
    grid: Sequence[int],
    flops: float,
    memory_bytes: float,
    collectives: Mapping[str, float],
) -> Roofline:
    """Returns the best times of what one device does: FLOPs, bytes from memory, bytes by kind."""
    return Roofline(
        flops * chip.devices / chip.flops_per_second,
        memory_bytes * chip.devices / chip.memory_bytes_per_second,
        {kind: collective_seconds(kind, size, chip, grid) for kind, size in collectives.items()},
    )


def collective_seconds(kind: str, num_bytes: float, chip: Chip, grid: Sequence[int]) -> float:
    """Returns how long a collective over all chips takes that gives each device `num_bytes`.

    On a torus all-to-all is bound by the links that cross its middle. Of the N devices' bytes a
    quarter cross it in each direction, over 2 N / k links where the longest side has k chips: the
    time grows with k, which on a square is the root of N (GShard, section 5). An all-reduce and its
    halves use all links at once, and take the same time whatever N is.
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
