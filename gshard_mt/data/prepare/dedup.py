"""Duplicates: finds the repeated pairs of a language on disk, in bounded memory."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
import tempfile
from collections.abc import Iterable, Iterator

import numpy as np

PART_ROWS = 1 << 20  # rows to sort in memory at once

KEPT, DUPLICATE, NEAR_DUPLICATE = range(3)

ROW = np.dtype([("id", "<i8"), ("pair", "<u8"), ("near", "<u8"), ("row", "<i8")])


def find_duplicates(keys: np.ndarray) -> np.ndarray:
    """Returns KEPT, DUPLICATE or NEAR_DUPLICATE (uint8) for each row with `id`, `pair`, `near`.

    Of equal pairs, and of pairs with the same near form, the one with the lowest id is kept.
    """
    is_again = [_is_again(keys[name], keys["id"]) for name in ("pair", "near")]
    return np.select(is_again, [DUPLICATE, NEAR_DUPLICATE], KEPT).astype(np.uint8)


def find_duplicates_on_disk(
    blocks: Iterable[np.ndarray], num_rows: int, folder: pathlib.Path
) -> np.ndarray:
    """Returns `find_duplicates` of all blocks' keys, concatenated.

    The near key assigns rows to files in `folder`, so that rows that may be equal are in the same
    file, and each file is sorted alone: memory grows by one byte per row.
    """
    bits = part_bits(num_rows)
    found = np.zeros(num_rows, np.uint8)
    with tempfile.TemporaryDirectory(dir=folder, prefix="dedup-") as name:
        paths = [pathlib.Path(name) / f"{part}.rows" for part in range(1 << bits)]
        start = 0
        for keys in blocks:
            for part, rows in deal(keys, start, bits):
                with open(paths[part], "ab") as file:
                    file.write(rows.tobytes())
            start += len(keys)
        for path in paths:
            if path.exists():
                rows = np.fromfile(path, ROW)
                found[rows["row"]] = find_duplicates(rows)
    return found


def part_bits(num_rows: int) -> int:
    """Returns how many bits of the near key select a part, for about PART_ROWS rows per part."""
    return max(0, (num_rows - 1) // PART_ROWS).bit_length()


def deal(keys: np.ndarray, start: int, bits: int) -> Iterator[tuple[int, np.ndarray]]:
    """Returns each (part, its ROWs) for keys that begin at row `start`; no part is empty.

    Pairs that may be equal go to the same part, in every call.
    """
    rows = np.empty(len(keys), ROW)
    for field in ("id", "pair", "near"):
        rows[field] = keys[field]
    rows["row"] = np.arange(start, start + len(keys))
    part = rows["near"] >> np.uint64(1) >> np.uint64(63 - bits)  # twice: a shift is at most 63
    order = np.argsort(part, kind="stable")
    numbers, starts = np.unique(part[order], return_index=True)
    return zip(numbers.tolist(), np.split(rows[order], starts[1:]), strict=True)


def _is_again(key: np.ndarray, id: np.ndarray) -> np.ndarray:
    order = np.lexsort((id, key))
    is_again = np.zeros(len(key), bool)
    is_again[order[1:]] = key[order[1:]] == key[order[:-1]]
    return is_again
