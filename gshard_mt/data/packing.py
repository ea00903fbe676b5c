"""Packing: sentences laid into rows so that both sides of a row are nearly full, nothing cut."""
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gshard_mt.data.records import Record
from gshard_mt.data.tokenizer import bos_id, eos_id

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


def pack_rows(
    source_lengths: np.ndarray, target_lengths: np.ndarray, row_source: int, row_target: int
) -> np.ndarray:
    """Returns each pair's row, in which neither side's lengths sum up to more than the row has.

    Best fit, longest first: a pair goes to the row that it leaves least room in (on the emptier
    side); a new row is opened where it fits in none. Lengths count EOS. Rows are numbered from 0.
    """
    share = source_lengths / row_source + target_lengths / row_target
    sources, targets = source_lengths.tolist(), target_lengths.tolist()
    room_source = np.full(len(share), row_source, np.float64)
    room_target = np.full(len(share), row_target, np.float64)
    row_of = np.empty(len(share), np.int64)
    num_rows = 0
    for pair in np.argsort(-share, kind="stable").tolist():
        left_source = room_source[:num_rows] - sources[pair]
        left_target = room_target[:num_rows] - targets[pair]
        left = np.maximum(left_source / row_source, left_target / row_target)
        left[(left_source < 0) | (left_target < 0)] = 2.0  # more than any room
        row = int(left.argmin()) if num_rows else 0
        if num_rows == 0 or left[row] == 2.0:
            row = num_rows
            num_rows += 1
        room_source[row] -= sources[pair]
        room_target[row] -= targets[pair]
        row_of[pair] = row
    return row_of


def pack(
    records: Sequence[Record], pairs: Sequence[int], row_source: int, row_target: int
) -> Batch:
    """Returns rows that hold every record once, whole. Records are no longer than a row.

    `pairs` numbers the language pair of each record.
    """
    source_lengths = np.array([len(record.source) + 1 for record in records], np.int64)
    target_lengths = np.array([len(record.target) + 1 for record in records], np.int64)
    row_of = pack_rows(source_lengths, target_lengths, row_source, row_target)
    order = np.argsort(row_of, kind="stable")
    row_of, pair_of = row_of[order], np.asarray(pairs, np.int32)[order]
    source_ids, target_ids = ([getattr(records[i], side) for i in order] for side in Record._fields)
    source = _lay_out(source_ids, pair_of, source_lengths[order], row_of, row_source)
    target = _lay_out(target_ids, pair_of, target_lengths[order], row_of, row_target)
    # The decoder reads what it has to say one position later, from BOS on.
    input_BT = np.zeros_like(target.ids)
    input_BT[:, 1:] = target.ids[:, :-1]
    input_BT[(target.position == 0) & (target.segment > 0)] = bos_id
    input_BT[target.segment == 0] = 0
    return Batch(*source, input_BT, *target)


class _Side(NamedTuple):
    ids: np.ndarray
    segment: np.ndarray
    position: np.ndarray
    pair: np.ndarray


def _lay_out(
    sentences: Sequence[np.ndarray],
    pair_of: np.ndarray,
    lengths: np.ndarray,
    row_of: np.ndarray,
    row_length: int,
) -> _Side:
    """Lays sentences, sorted by row, end to end in their rows; `lengths` count EOS."""
    is_first = np.r_[True, row_of[1:] != row_of[:-1]]  # of its row
    first = np.maximum.accumulate(np.where(is_first, np.arange(len(row_of)), 0))
    ends = np.cumsum(lengths)
    starts = ends - lengths
    offset = starts - starts[first]  # of each sentence in its row
    position = np.arange(ends[-1]) - np.repeat(starts, lengths)
    place = np.repeat(row_of * row_length + offset, lengths) + position
    flat = np.full(ends[-1], eos_id, np.int32)
    flat[position < np.repeat(lengths - 1, lengths)] = np.concatenate(sentences)
    side = _Side(*np.zeros((4, (row_of[-1] + 1), row_length), np.int32))
    side.ids.ravel()[place] = flat
    side.segment.ravel()[place] = np.repeat(np.arange(len(row_of)) - first + 1, lengths)
    side.position.ravel()[place] = position
    side.pair.ravel()[place] = np.repeat(pair_of, lengths)
    return side
