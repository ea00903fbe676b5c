"""The text of a compiled program (HLO): computations, their instructions, what those call."""
# SPDX-License-Identifier: Apache-2.0

import re
from typing import NamedTuple

_HEAD = re.compile(r"^(ENTRY )?%?([\w.$-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.$-]+) = (.*?)\s([\w-]+)\(")
_CALLED = re.compile(r"(?:calls|to_apply|called_computations=\{?)=?%?([\w.$-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_BODY = re.compile(r"condition=%?[\w.$-]+, body=%?([\w.$-]+)")


class Instruction(NamedTuple):
    """What begins a line of a computation."""

    name: str
    type: str  # of the result, as in "f32[8,8]{1,0}"
    opcode: str


def split_computations(text: str) -> tuple[dict[str, list[str]], str]:
    """Returns the lines of every computation, and the name of the entry computation."""
    computations: dict[str, list[str]] = {}
    entry, lines = "", []
    for line in text.splitlines():
        if match := _HEAD.match(line):
            lines = computations[match[2]] = []
            entry = match[2] if match[1] else entry
        elif " = " in line:
            lines.append(line)
    return computations, entry


def read_instruction(line: str) -> Instruction | None:
    """Returns the instruction of a computation's line."""
    match = _INSTRUCTION.match(line)
    return Instruction(*match.groups()) if match else None


def called_once(line: str) -> list[str]:
    """Returns the computations that an instruction runs once: all but a loop's body."""
    called = _CALLED.findall(line)
    for branches in _BRANCHES.findall(line):
        called += [each.strip().lstrip("%") for each in branches.split(",")]
    return called


def called_by(line: str) -> list[str]:
    """Returns the computations that an instruction may run, a loop's body among them."""
    return called_once(line) + _BODY.findall(line)
