"""Where the time of profiled steps went: a trace's events by the kind of work they are."""
# SPDX-License-Identifier: Apache-2.0

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from gshard_mt.partitioning.hlo import (
    Instruction,
    called_by,
    read_instruction,
    split_computations,
)

IDLE = "idle"
KINDS: tuple[str, ...] = ("matmul", "attention", "dispatch", "exchange", "optimizer", "other", IDLE)
STEP = "train"  # what the host's events of a step are called

_OP_NAME = re.compile(r'op_name="([^"]*)"')
_MODULE = re.compile(r"^HloModule ([\w.$-]+)")
_EXCHANGE = re.compile(r"all-to-all|all-reduce|all-gather|reduce-scatter|collective-|send|recv")
_PRODUCT = re.compile(r"\s(?:dot|convolution|ragged-dot)\(|gemm|matmul|/dot_general\"")
_SCOPE = re.compile(r"\b(attention|dispatch|experts|optimizer)\b")  # of `jax.named_scope`
_CONTROL = ("while", "conditional")  # what runs inside has events of its own


class StepProgram(NamedTuple):
    """The instructions of a compiled program by name, each with the kind of its work."""

    module: str
    kinds: dict[str, str]  # without those that only control others


class Event(NamedTuple):
    """One run of an instruction on a device; times in nanoseconds."""

    device: str
    start: float
    end: float
    kind: str


def read_program(text: str) -> StepProgram:
    """Reads a compiled program (its HLO text).

    Collectives are `exchange`. Otherwise the innermost scope decides: attention (projections
    included), dispatch (gate, slots and sorting) or optimizer. All other products are `matmul`.
    """
    computations, _ = split_computations(text)
    kinds = {}
    for line in (line for lines in computations.values() for line in lines):
        found = read_instruction(line)
        if found and found.opcode not in _CONTROL:
            called = [each for name in called_by(line) for each in computations.get(name, ())]
            kinds[found.name] = _kind_of(found, line, "\n".join(called))
    module = _MODULE.match(text)
    return StepProgram(module[1] if module else "", kinds)


def _kind_of(found: Instruction, line: str, called: str) -> str:
    if _EXCHANGE.search(found.opcode) or _EXCHANGE.match(found.name):
        return "exchange"
    op_names = _OP_NAME.findall(line) or _OP_NAME.findall(called)[-1:]
    scope = _SCOPE.findall(op_names[0])[-1:] if op_names else []
    if scope and scope != ["experts"]:
        return scope[0]
    if scope and found.opcode == "custom-call":  # a kernel of experts
        return "matmul"
    return "matmul" if _PRODUCT.search(line) or _PRODUCT.search(called) else "other"


def read_events(profile: Any, program: StepProgram) -> list[Event]:
    """Returns a profile's events of devices (`jax.profiler.ProfileData`).

    Those of CPU devices are on the host's plane. Instructions of other programs are `other`.
    """
    events = []
    for plane in profile.planes:
        is_device = plane.name.startswith("/device:")
        for line in plane.lines:
            for event in line.events:
                stats = dict(event.stats)
                name = stats.get("hlo_op")
                if name is None and is_device and line.name.endswith("XLA Ops"):  # of a TPU
                    name = event.name.split(" = ")[0].lstrip("%")
                if name is None:
                    continue
                kind = "other"
                if stats.get("hlo_module", program.module) == program.module:
                    kind = program.kinds.get(str(name), "")
                # Copies in the background of a TPU keep nothing from running.
                if not kind or (line.name.startswith("Async") and kind != "exchange"):
                    continue
                device = plane.name if is_device else f"CPU:{stats.get('device_ordinal', 0)}"
                end = event.start_ns + event.duration_ns
                events.append(Event(device, event.start_ns, end, kind))
    return events


def first_step(profile: Any) -> float:
    """Returns when the host began the first step, in nanoseconds."""
    return min(
        event.start_ns
        for plane in profile.planes
        if plane.name.startswith("/host:")
        for line in plane.lines
        for event in line.events
        if event.name == STEP
    )


def break_down(events: Iterable[Event], start: float) -> dict[str, float]:
    """Returns the nanoseconds of each kind from `start` to the last event, the mean of devices.

    A moment belongs to what began last of all that runs; to `exchange` only if nothing else runs,
    and to `idle` if nothing does.
    """
    by_device: dict[str, list[Event]] = {}
    for event in events:
        by_device.setdefault(event.device, []).append(event)
    sums = dict.fromkeys(KINDS, 0.0)
    end = max(event.end for each in by_device.values() for event in each)
    for each in by_device.values():
        for kind, length in _moments(each, start, end):
            sums[kind] += length / len(by_device)
    return sums


def _moments(events: list[Event], start: float, end: float) -> Iterable[tuple[str, float]]:
    changes = []
    for number, event in enumerate(events):
        if event.end > event.start >= start:
            changes += [(event.start, 1, number), (event.end, 0, number)]
    running: dict[int, Event] = {}
    since = start
    for now, begins, number in sorted([*changes, (end, 0, -1)]):
        if now > since:
            yield _busy_with(running), now - since
            since = now
        if begins:
            running[number] = events[number]
        else:
            running.pop(number, None)


def _busy_with(running: Mapping[int, Event]) -> str:
    if not running:
        return IDLE
    return max(running.values(), key=lambda event: (event.kind != "exchange", event.start)).kind
