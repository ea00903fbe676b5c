"""The devices that a collective joins, in each notation of a compiled program's text."""
# SPDX-License-Identifier: Apache-2.0

import math
import re

import numpy as np
from jax.sharding import Mesh

_LISTED = re.compile(r"(?:replica_groups|source_target_pairs)=\{(\{[\d,{}]*\})?\}")
_COUNTED = re.compile(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_MESH = re.compile(r"replica_groups=mesh\[([^\]]*)\](, device_ids=\S+)? \{([^}]*)\}")
_ORDER = re.compile(r"\(\[([\d,]+)\](?:T\(([\d,]+)\))?\)")
_AXIS = re.compile(r"'([^']+)'=(\d+)")
_NAMED = re.compile(r"'([^']+)'(?::\((\d+)\)(\d+))?")


def slice_of_devices(mesh: Mesh) -> list[int]:
    """Returns the slice of each device, in the order of the flattened mesh; [] for one slice."""
    if "dcn_data" not in mesh.axis_names:
        return []
    return np.indices(mesh.devices.shape)[mesh.axis_names.index("dcn_data")].ravel().tolist()


def read_groups(line: str, num_devices: int) -> np.ndarray:
    """Returns the groups of a collective's line: [groups, devices in each].

    Devices are numbered as in the flattened mesh. The groups of a collective-permute are its pairs
    of a source and a target. Raises ValueError for a line without groups.
    """
    if match := _LISTED.search(line):
        if not match[1]:
            return np.arange(num_devices)[None]
        return np.array([_numbers(each) for each in match[1][1:-1].split("},{")])
    if match := _COUNTED.search(line):
        return _count(match[2], match[3]).reshape(_numbers(match[1]))
    if match := _MESH.search(line):
        groups = _split_mesh(dict(_AXIS.findall(match[1])), _NAMED.findall(match[3]))
        if not match[2]:
            return groups
        if order := _ORDER.search(match[2]):
            return _count(*order.groups()).ravel()[groups]
    raise ValueError(f"no groups of devices: {line[:200]}")


def _count(shape: str, order: str | None) -> np.ndarray:
    """Returns the numbers from 0 in an array of this shape, its axes transposed to `order`."""
    sizes = _numbers(shape)
    return np.arange(math.prod(sizes)).reshape(sizes).transpose(_numbers(order) if order else None)


def _split_mesh(sizes: dict[str, str], named: list[tuple[str, str, str]]) -> np.ndarray:
    """Returns the groups along the named axes of a mesh; `(name, before, size)` is part of one."""
    shape: list[int] = []
    chosen: list[int] = []
    for name, text in sizes.items():
        whole = int(text)
        parts = sorted((int(b or 1), int(s or whole)) for n, b, s in named if n == name)
        position = 1
        for before, size in parts:
            shape += [before // position, size]
            chosen.append(len(shape) - 1)
            position = before * size
        shape.append(whole // position)
    rest = [axis for axis in range(len(shape)) if axis not in chosen]
    grid = np.arange(math.prod(shape)).reshape(shape).transpose(rest + chosen)
    return grid.reshape(-1, math.prod(shape[axis] for axis in chosen))


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]
