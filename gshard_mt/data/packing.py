"""Packing: sentences laid into rows so that both sides of a row are nearly full, nothing cut."""
# SPDX-License-Identifier: Apache-2.0

from typing import Any, NamedTuple

import numpy as np

from gshard_mt.data.examples import Columns
from gshard_mt.data.tokenizer import bos_id, eos_id

_ROWS_AT_ONCE = 128  # rows get room in such steps

Array = Any  # of NumPy here, of JAX inside a jitted function


class Batch(NamedTuple):
    """Packed rows (B rows, L source positions, T target positions), int32, padding 0 everywhere.

    Sentences of a row are numbered from 1 in the segments; positions start at 0 in each of them.
    """

    source_BL: Array  # ids, then EOS
    source_segment_BL: Array
    source_position_BL: Array
    source_pair_BL: Array  # number of the language pair, 0 at padding too
    input_BT: Array  # BOS, then ids
    label_BT: Array  # ids, then EOS
    target_segment_BT: Array  # the same numbers as the source's
    target_position_BT: Array
    target_pair_BT: Array


class Packing(NamedTuple):
    """Sentence pairs and the row that each is in, before any row is laid out."""

    columns: Columns
    pair_of: np.ndarray  # number of the language pair of each
    row_of: np.ndarray
    num_rows: int


def pack(columns: Columns, pair_of: np.ndarray, row_source: int, row_target: int) -> Packing:
    """Assigns every sentence pair to a row. None is longer than a row."""
    row_of = pack_rows(
        columns.source_lengths + 1, columns.target_lengths + 1, row_source, row_target
    )
    return Packing(columns, pair_of, row_of, int(row_of.max(initial=-1)) + 1)


def pack_rows(
    source_lengths: np.ndarray, target_lengths: np.ndarray, row_source: int, row_target: int
) -> np.ndarray:
    """Returns each pair's row, in which neither side's lengths sum up to more than the row has.

    Best fit, longest first: a pair goes to the row that it leaves least room in (on the emptier
    side); a new row is opened where it fits in none. Lengths count EOS, at least 1. Rows are
    numbered from 0.
    """
    # In parts of a row that are the same for both sides, so that they compare as integers.
    sources, targets = source_lengths * row_target, target_lengths * row_source
    order = np.argsort(-(sources + targets), kind="stable")
    row_of = np.empty(len(order), np.int64)
    num_rows, room, left = 0, np.empty((2, 0), np.int64), np.empty((2, 0), np.int64)
    for pair, source, target in np.stack([order, sources[order], targets[order]], axis=1).tolist():
        if num_rows == room.shape[1]:
            new = np.full((2, _ROWS_AT_ONCE), row_source * row_target, np.int64)
            room = np.concatenate([room, new], axis=1)
            left = np.empty_like(room)
            room_source, room_target = room
            left_source, left_target = left
            sizes_source, sizes_target = left.view(np.uint64)
        # Rows not opened yet take part: whatever is in use has less room, so it comes first.
        np.subtract(room_source, source, out=left_source)
        np.subtract(room_target, target, out=left_target)
        # Read without its sign, what is below 0 is more than any room.
        row = int(np.maximum(sizes_source, sizes_target, out=sizes_source).argmin())
        room_source[row] -= source
        room_target[row] -= target
        row_of[pair] = row
        num_rows = max(num_rows, row + 1)
    return row_of


def lay_out(packing: Packing, rows: np.ndarray, row_source: int, row_target: int) -> Batch:
    """Returns the rows of these numbers, in this order."""
    place_of_row = np.full(packing.num_rows, -1, np.int64)
    place_of_row[rows] = np.arange(len(rows))
    place_of = place_of_row[packing.row_of]
    order = np.argsort(place_of, kind="stable")[np.count_nonzero(place_of < 0) :]
    row_of, pair_of, columns = place_of[order], packing.pair_of[order], packing.columns
    size = (len(rows), row_source)
    source = _lay_out(_pick(columns.source, columns.source_lengths, order), pair_of, row_of, size)
    size = (len(rows), row_target)
    target = _lay_out(_pick(columns.target, columns.target_lengths, order), pair_of, row_of, size)
    # The decoder reads what it has to say one position later, from BOS on.
    input_BT = np.zeros_like(target.ids)
    input_BT[:, 1:] = target.ids[:, :-1]
    input_BT[(target.position == 0) & (target.segment > 0)] = bos_id
    input_BT[target.segment == 0] = 0
    return Batch(*source, input_BT, *target)


class _Sentences(NamedTuple):
    ids: np.ndarray  # end to end, each with its EOS
    lengths: np.ndarray  # EOS counted
    positions: np.ndarray  # of each id in its sentence


def _pick(ids: np.ndarray, lengths: np.ndarray, order: np.ndarray) -> _Sentences:
    """Returns sentences in this order, an EOS behind each."""
    starts = np.cumsum(lengths) - lengths
    picked = lengths[order] + 1
    ends = np.cumsum(picked)
    positions = np.arange(picked.sum()) - np.repeat(ends - picked, picked)
    places = np.repeat(starts[order], picked) + positions
    found = np.r_[ids, np.int32(eos_id)][np.minimum(places, len(ids))]
    found[ends - 1] = eos_id
    return _Sentences(found, picked, positions)


class _Side(NamedTuple):
    ids: np.ndarray
    segment: np.ndarray
    position: np.ndarray
    pair: np.ndarray


def _lay_out(
    sentences: _Sentences, pair_of: np.ndarray, row_of: np.ndarray, size: tuple[int, int]
) -> _Side:
    """Lays sentences, sorted by row, end to end in their rows."""
    side = _Side(*np.zeros((4, *size), np.int32))
    if not len(row_of):
        return side
    lengths = sentences.lengths
    is_first = np.r_[True, row_of[1:] != row_of[:-1]]  # of its row
    first = np.maximum.accumulate(np.where(is_first, np.arange(len(row_of)), 0))
    starts = np.cumsum(lengths) - lengths
    offset = starts - starts[first]  # of each sentence in its row
    place = np.repeat(row_of * size[1] + offset, lengths) + sentences.positions
    side.ids.ravel()[place] = sentences.ids
    side.segment.ravel()[place] = np.repeat(np.arange(len(row_of)) - first + 1, lengths)
    side.position.ravel()[place] = sentences.positions
    side.pair.ravel()[place] = np.repeat(pair_of, lengths)
    return side
