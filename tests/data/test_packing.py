"""Packed rows hold every pair once and whole, and are nearly full."""
# SPDX-License-Identifier: Apache-2.0

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gshard_mt.data.packing import Batch, pack, pack_rows
from gshard_mt.data.records import Record
from gshard_mt.data.tokenizer import bos_id, eos_id

_IDS = st.lists(st.integers(4, 90), min_size=1, max_size=11)
_PAIRS = st.lists(st.tuples(_IDS, _IDS), min_size=1, max_size=40)


def unpack(batch: Batch) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Reads the pairs back, position by position: slow and plain."""
    pairs = []
    for row in range(len(batch.source_BL)):
        for segment in range(1, batch.source_segment_BL[row].max() + 1):
            at_L = batch.source_segment_BL[row] == segment
            at_T = batch.target_segment_BT[row] == segment
            source, label = batch.source_BL[row][at_L], batch.label_BT[row][at_T]
            entered = batch.input_BT[row][at_T]
            assert list(batch.source_position_BL[row][at_L]) == list(range(len(source)))
            assert list(batch.target_position_BT[row][at_T]) == list(range(len(label)))
            assert source[-1] == eos_id and label[-1] == eos_id
            assert entered[0] == bos_id and list(entered[1:]) == list(label[:-1])
            pairs.append((tuple(source[:-1].tolist()), tuple(label[:-1].tolist())))
    return pairs


@settings(deadline=None, max_examples=60)
@given(_PAIRS)
def test_every_pair_is_in_the_rows_once_and_whole(pairs):
    records = [Record(np.array(s, np.int32), np.array(t, np.int32)) for s, t in pairs]
    batch = pack(records, [0] * len(records), 12, 14)
    assert all(array.dtype == np.int32 for array in batch)
    assert Counter(unpack(batch)) == Counter((tuple(s), tuple(t)) for s, t in pairs)
    for ids, segment in zip(batch[0::3][:1], batch[1::3][:1], strict=True):
        assert not ids[segment == 0].any()
    padding = batch.target_segment_BT == 0
    assert not batch.input_BT[padding].any() and not batch.label_BT[padding].any()


def test_rows_are_nearly_full_where_their_lengths_fit_the_data():
    rng = np.random.default_rng(0)
    source = np.clip(rng.geometric(0.1, 4096), 2, 64)
    target = np.clip(np.round(source * rng.uniform(0.5, 1.0, 4096)), 1, 48).astype(np.int64)
    rows = pack_rows(source, target, 64, 48)
    num_rows = rows.max() + 1
    for lengths, room in ((source, 64), (target, 48)):
        assert np.bincount(rows, lengths).max() <= room
    assert source.sum() / (64 * num_rows) > 0.96
