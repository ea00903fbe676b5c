"""Counts the all-to-alls of a compiled program during which experts compute."""
# SPDX-License-Identifier: Apache-2.0

import functools
import re
from collections.abc import Callable
from typing import NamedTuple

from gshard_mt.partitioning.hlo import called_by, read_instruction, split_computations

_DONE = re.compile(r"-done\(.*?%?([\w.$-]+)\)")
_OF_EXPERTS = re.compile(r'op_name="[^"]*\bexperts\b')  # the scope in `model/moe.py`


class Overlap(NamedTuple):
    """All-to-alls in the program's text that are two instructions, a start and a done."""

    pairs: int
    with_product: int  # a matrix product of experts is scheduled between the two


def count_overlap(text: str) -> Overlap:
    """Returns the asynchronous all-to-alls of a compiled program (its HLO text, as scheduled)."""
    computations, _ = split_computations(text)

    @functools.cache
    def contains(name: str, is_wanted: Callable[[str, str], bool]) -> bool:
        return any(does(line, is_wanted) for line in computations.get(name, ()))

    def does(line: str, is_wanted: Callable[[str, str], bool]) -> bool:
        """Tells whether an instruction is wanted or runs a computation that has such a one."""
        found = read_instruction(line)
        return bool(found and is_wanted(found.opcode, line)) or any(
            contains(name, is_wanted) for name in called_by(line)
        )

    pairs = with_product = 0
    for lines in computations.values():
        under_way: dict[str, bool] = {}  # by start without a done yet: was there a product?
        for line in lines:
            found = read_instruction(line)
            if not found:
                continue
            if found.opcode.endswith("-start") and does(line, _is_all_to_all):
                under_way[found.name] = False
            elif (done := _DONE.search(line)) and done[1] in under_way:
                pairs += 1
                with_product += under_way.pop(done[1])
            elif does(line, _is_expert_product):
                under_way = dict.fromkeys(under_way, True)
    return Overlap(pairs, with_product)


def _is_all_to_all(kind: str, line: str) -> bool:
    return kind in ("all-to-all", "all-to-all-start")


def _is_expert_product(kind: str, line: str) -> bool:
    # XLA's compiler for TPUs makes convolutions of all products.
    return kind in ("dot", "convolution") and bool(_OF_EXPERTS.search(line))
