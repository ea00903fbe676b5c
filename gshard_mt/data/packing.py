"""Packing: puts sentences into rows so that both sides are nearly full and nothing is cut."""
# SPDX-License-Identifier: Apache-2.0

from typing import Any, NamedTuple

import numpy as np

from gshard_mt.data.examples import Columns
from gshard_mt.data.tokenizer import bos_id, eos_id

_ROWS_AT_ONCE = 128  # rows to allocate at a time

Array = Any  # NumPy here, JAX inside a jitted function


class Batch(NamedTuple):
    """Packed rows (B rows, L source positions, T target positions), int32, with 0 as padding.

    Segments number the sentences of a row from 1; positions start at 0 in each sentence.
    """

    source_BL: Array  # ids, then EOS
    source_segment_BL: Array
    source_position_BL: Array
    source_pair_BL: Array  # number of the language pair; 0 at padding, too
    input_BT: Array  # BOS, then ids
    label_BT: Array  # ids, then EOS
    target_segment_BT: Array  # the numbers of `source_segment_BL`
    target_position_BT: Array
    target_pair_BT: Array


class Packing(NamedTuple):
    """Sentence pairs and the row of each, before rows are laid out."""

    columns: Columns
    pair_of: np.ndarray  # number of the language pair of each
    row_of: np.ndarray
    num_rows: int


def pack(columns: Columns, pair_of: np.ndarray, row_source: int, row_target: int) -> Packing:
    """Assigns every sentence pair to a row. None may be longer than a row."""
    row_of = pack_rows(
        columns.source_lengths + 1, columns.target_lengths + 1, row_source, row_target
    )
    return Packing(columns, pair_of, row_of, int(row_of.max(initial=-1)) + 1)


def pack_rows(
    source_lengths: np.ndarray, target_lengths: np.ndarray, row_source: int, row_target: int
) -> np.ndarray:
    """Returns each pair's row, numbered from 0; no side exceeds the length of a row.

    Best fit, longest first: a pair goes to the row that it leaves least room in (on the emptier
    side), or to a new one if it fits in none. Lengths include EOS, so they are at least 1.
    """
    # Scaled so that a full row is the same integer on both sides.
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
        # Empty rows compete as well: a row in use that fits has less room, so it comes first.
        np.subtract(room_source, source, out=left_source)
        np.subtract(room_target, target, out=left_target)
        # Read as unsigned, a negative number is more than any room.
        row = int(np.maximum(sizes_source, sizes_target, out=sizes_source).argmin())
        room_source[row] -= source
        room_target[row] -= target
        row_of[pair] = row
        num_rows = max(num_rows, row + 1)
    return row_of


def lay_out(packing: Packing, rows: np.ndarray, row_source: int, row_target: int) -> Batch:
    """Returns the given rows, in this order."""
    new_row = np.full(packing.num_rows, -1, np.int64)
    new_row[rows] = np.arange(len(rows))
    new_row_of = new_row[packing.row_of]
    order = np.argsort(new_row_of, kind="stable")[np.count_nonzero(new_row_of < 0) :]
    row_of, pair_of, columns = new_row_of[order], packing.pair_of[order], packing.columns
    size = (len(rows), row_source)
    source = _lay_out(_pick(columns.source, columns.source_lengths, order), pair_of, row_of, size)
    size = (len(rows), row_target)
    target = _lay_out(_pick(columns.target, columns.target_lengths, order), pair_of, row_of, size)
    # The decoder's inputs are its labels shifted right, beginning with BOS.
    input_BT = np.zeros_like(target.ids)
    input_BT[:, 1:] = target.ids[:, :-1]
    input_BT[(target.position == 0) & (target.segment > 0)] = bos_id
    input_BT[target.segment == 0] = 0
    return Batch(*source, input_BT, *target)


class _Sentences(NamedTuple):
    ids: np.ndarray  # concatenated, each with its EOS
    lengths: np.ndarray  # with EOS
    positions: np.ndarray  # of each id in its sentence


def _pick(ids: np.ndarray, lengths: np.ndarray, order: np.ndarray) -> _Sentences:
    """Returns the sentences in this order, with an EOS after each."""
    starts = np.cumsum(lengths) - lengths
    picked = lengths[order] + 1
    ends = np.cumsum(picked)
    positions = np.arange(picked.sum()) - np.repeat(ends - picked, picked)
    indices = np.repeat(starts[order], picked) + positions
    found = np.r_[ids, np.int32(eos_id)][np.minimum(indices, len(ids))]
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
    """Puts sentences, sorted by row, one after another into their rows."""
    side = _Side(*np.zeros((4, *size), np.int32))
    if not len(row_of):
        return side
    lengths = sentences.lengths
    is_first = np.r_[True, row_of[1:] != row_of[:-1]]  # in its row
    first = np.maximum.accumulate(np.where(is_first, np.arange(len(row_of)), 0))
    starts = np.cumsum(lengths) - lengths
    offset = starts - starts[first]  # of each sentence in its row
    index = np.repeat(row_of * size[1] + offset, lengths) + sentences.positions
    side.ids.ravel()[index] = sentences.ids
    side.segment.ravel()[index] = np.repeat(np.arange(len(row_of)) - first + 1, lengths)
    side.position.ravel()[index] = sentences.positions
    side.pair.ravel()[index] = np.repeat(pair_of, lengths)
    return side
