"""Reads a compiled program's text: which collectives it runs, how often, and their bytes."""
# SPDX-License-Identifier: Apache-2.0

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gshard_mt.partitioning.hlo import called_once, read_instruction, split_computations
from gshard_mt.plan.groups import read_groups

COLLECTIVES = (
    "all-to-all",
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "collective-permute",
)
_BITS = {"pred": 8, "s4": 4, "u4": 4, "s8": 8, "u8": 8, "s16": 16, "u16": 16, "bf16": 16, "f16": 16}
_BITS |= {"s32": 32, "u32": 32, "f32": 32, "s64": 64, "u64": 64, "f64": 64, "c64": 64, "c128": 128}
_MIN_BYTES = 1024  # smaller collectives carry sums and counters; not counted as instructions

_SHAPE = re.compile(r"\b(pred|bf16|[sufc]\d+)\[([\d,]*)\]")
_LOOP = re.compile(r"condition=%?([\w.$-]+), body=%?([\w.$-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_LIMIT = re.compile(r"constant\((\d+)\)")
# A program for TPUs leaves the exchange between slices to the hosts.
_HOST_SEND = re.compile(r'xla_megascale_runtime".*_xla_host_transfer_rendezvous="([a-z-]+)[."]')


class Traffic(NamedTuple):
    """The collectives of one kind in one run of the program."""

    instructions: int  # in the program's text, at least _MIN_BYTES each
    bytes: float  # of results on one device, all loop iterations included
    dcn_bytes: float  # that one device sends to other slices


def read_traffic(text: str, slices: Sequence[int] = ()) -> dict[str, Traffic]:
    """Returns the collectives of a compiled program (its HLO text), by kind.

    The body of a loop counts once per iteration, by the trip count in the text (XLA's own cost
    analysis counts it once). A loop of unknown length counts once.

    `slices` has the slice of each device in the order of the mesh, for a program that is unaware of
    slices; a collective over several of them is taken to exchange between slices only what it has
    to, shared by the devices of each. A program for TPUs says what it sends.
    """
    computations, entry = split_computations(text)
    times = _times(computations, entry)
    instructions: dict[str, int] = defaultdict(int)
    moved: dict[str, float] = defaultdict(float)
    sent: dict[str, float] = defaultdict(float)
    for name, lines in computations.items():
        for line in lines:
            found = read_instruction(line)
            if not found:
                continue
            kind = found.opcode.removesuffix("-start")
            if kind == "send" and (to_host := _HOST_SEND.search(line)):
                size = _num_bytes(found.type.split(" u32[]")[0])
                sent[to_host[1].removesuffix("-start")] += size * times[name]
            if kind not in COLLECTIVES or not times[name]:
                continue
            size = _num_bytes(found.type.split(" u32[]")[0])
            if found.opcode.endswith("-start"):  # its result includes the operand
                size /= 2
            share_sent, stays = _crossing(kind, line, slices) if slices else (0.0, True)
            sent[kind] += size * share_sent * times[name]
            if stays:
                moved[kind] += size * times[name]
                instructions[kind] += size >= _MIN_BYTES
    kinds = sorted(kind for kind in {*moved, *sent} if moved[kind] or sent[kind])
    return {kind: Traffic(instructions[kind], moved[kind], sent[kind]) for kind in kinds}


def _crossing(kind: str, line: str, slices: Sequence[int]) -> tuple[float, bool]:
    """Returns what a device sends to other slices, as a share of its result, and if any stays."""
    groups = np.array(slices)[read_groups(line, len(slices))]
    if kind == "collective-permute":
        crosses = groups[:, 0] != groups[:, 1]
        return float(crosses.sum()) / len(slices), not crosses.all()
    joined = len(np.unique(groups[0]))
    own = groups.shape[1] / joined  # of a group, in each slice
    others = {
        "all-reduce": 2 * (joined - 1) / joined / own,
        "all-gather": (joined - 1) / joined / own,
        "reduce-scatter": joined - 1,
        "all-to-all": (joined - 1) / joined,
    }
    return others[kind], own > 1 or joined == 1


def _times(computations: dict[str, list[str]], entry: str) -> dict[str, float]:
    """Returns how often each computation runs; those inside a fusion as often as the fusion."""
    calls: dict[str, list[tuple[str, int]]] = {name: [] for name in computations}
    for name, lines in computations.items():
        for line in lines:
            if loop := _LOOP.search(line):
                calls[name].append((loop[2], _trips(line, computations.get(loop[1], []))))
            calls[name] += [(each, 1) for each in called_once(line) if each in computations]
    times = dict.fromkeys(computations, 0.0)

    def visit(name: str, number: float) -> None:
        times[name] += number
        for called, trips in calls.get(name, []):
            visit(called, number * trips)

    visit(entry, 1.0)
    return times


def _trips(loop: str, condition: list[str]) -> int:
    if match := _TRIPS.search(loop):
        return int(match[1])
    limits = [int(each) for line in condition for each in _LIMIT.findall(line)]
    return limits[0] if len(limits) == 1 else 1


def _num_bytes(shapes: str) -> float:
    return sum(
        _BITS.get(kind, 32) / 8 * math.prod(int(size) for size in sizes.split(",") if size)
        for kind, sizes in _SHAPE.findall(shapes)
    )
