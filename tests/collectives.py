"""The communicating operations of a compiled program."""
# SPDX-License-Identifier: Apache-2.0

import math
import re

KINDS = (
    "all-to-all",
    "all-gather",
    "all-reduce",
    "collective-permute",
    "ragged-all-to-all",
    "reduce-scatter",
)
COLLECTIVE = re.compile(rf"= (.*?) ({'|'.join(KINDS)})(?:-start)?\(")


def find_collectives(text) -> list[tuple[str, int]]:
    """Returns (kind, largest array in elements) of each collective of a program's HLO text."""
    found = []
    for result, kind in COLLECTIVE.findall(text):
        shapes = re.findall(r"\w+\[([\d,]*)\]", result)
        sizes = [math.prod(int(n) for n in dims.split(",") if n) for dims in shapes]
        found.append((kind, max(sizes)))
    return found
