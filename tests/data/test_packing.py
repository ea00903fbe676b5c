"""Packed rows hold every pair once and whole, and are nearly full."""
# SPDX-License-Identifier: Apache-2.0

from collections import Counter
from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gshard_mt.data.examples import Columns
from gshard_mt.data.packing import Batch, lay_out, pack, pack_rows
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


def columns_of(pairs: list) -> Columns:
    sides = []
    for sentences in zip(*pairs, strict=True):
        ids = [each for sentence in sentences for each in sentence]
        sides += [np.array(ids, np.int32), np.array([len(each) for each in sentences], np.int64)]
    return Columns(*sides)


@settings(deadline=None, max_examples=60)
@given(_PAIRS)
def test_every_pair_is_in_the_rows_once_and_whole(pairs):
    packing = pack(columns_of(pairs), np.zeros(len(pairs), np.int32), 12, 14)
    batch = lay_out(packing, np.arange(packing.num_rows), 12, 14)
    assert all(array.dtype == np.int32 for array in batch)
    assert Counter(unpack(batch)) == Counter((tuple(s), tuple(t)) for s, t in pairs)
    padding_BL, padding_BT = batch.source_segment_BL == 0, batch.target_segment_BT == 0
    for array in (batch.source_BL, batch.source_position_BL, batch.source_pair_BL):
        assert not array[padding_BL].any()
    for array in (batch.input_BT, batch.label_BT, batch.target_position_BT, batch.target_pair_BT):
        assert not array[padding_BT].any()


@settings(deadline=None, max_examples=60)
@given(_PAIRS, st.randoms(use_true_random=False))
def test_rows_can_be_laid_out_some_at_a_time_in_any_order(pairs, random):
    packing = pack(columns_of(pairs), np.arange(len(pairs), dtype=np.int32), 12, 14)
    whole = lay_out(packing, np.arange(packing.num_rows), 12, 14)
    chosen = random.sample(range(packing.num_rows), random.randint(0, packing.num_rows))
    some = lay_out(packing, np.array(chosen, np.int64), 12, 14)
    for array, expected in zip(some, whole, strict=True):
        np.testing.assert_array_equal(array, expected[chosen])


def test_every_token_knows_its_language_pair():
    pairs = [([5] * 3, [6] * 4), ([7] * 8, [8] * 2), ([9], [10])]
    packing = pack(columns_of(pairs), np.array([2, 0, 1], np.int32), 12, 14)
    batch = lay_out(packing, np.arange(packing.num_rows), 12, 14)
    for id_of, number in ((5, 2), (7, 0), (9, 1)):
        assert set(batch.source_pair_BL[batch.source_BL == id_of]) == {number}
        assert set(batch.target_pair_BT[batch.label_BT == id_of + 1]) == {number}


def best_fit(sources: list[int], targets: list[int], row_source: int, row_target: int):
    """One pair after the other, one row after the other."""
    shares = [
        Fraction(s, row_source) + Fraction(t, row_target)
        for s, t in zip(sources, targets, strict=True)
    ]
    rooms: list[tuple[int, int]] = []
    row_of = [0] * len(sources)
    for pair in sorted(range(len(sources)), key=lambda pair: -shares[pair]):
        best, least = len(rooms), Fraction(2)
        for row, (source, target) in enumerate(rooms):
            left = source - sources[pair], target - targets[pair]
            room = max(Fraction(left[0], row_source), Fraction(left[1], row_target))
            if min(left) >= 0 and room < least:
                best, least = row, room
        if best == len(rooms):
            rooms.append((row_source, row_target))
        rooms[best] = rooms[best][0] - sources[pair], rooms[best][1] - targets[pair]
        row_of[pair] = best
    return row_of


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.tuples(st.integers(1, 12), st.integers(1, 9)), min_size=1, max_size=60),
    st.integers(12, 30),
    st.integers(9, 30),
)
def test_rows_are_those_of_the_plain_best_fit(lengths, row_source, row_target):
    sources, targets = map(list, zip(*lengths, strict=True))
    found = pack_rows(np.array(sources), np.array(targets), row_source, row_target)
    assert found.tolist() == best_fit(sources, targets, row_source, row_target)


def test_many_rows_are_those_of_the_plain_best_fit():
    rng = np.random.default_rng(1)
    source, target = rng.integers(1, 20, (2, 1200))
    found = pack_rows(source, target, 24, 22)
    assert found.max() > 400
    assert found.tolist() == best_fit(source.tolist(), target.tolist(), 24, 22)


def test_rows_are_nearly_full_where_their_lengths_fit_the_data():
    rng = np.random.default_rng(0)
    source = np.clip(rng.geometric(0.1, 4096), 2, 64)
    target = np.clip(np.round(source * rng.uniform(0.5, 1.0, 4096)), 1, 48).astype(np.int64)
    rows = pack_rows(source, target, 64, 48)
    num_rows = rows.max() + 1
    for lengths, room in ((source, 64), (target, 48)):
        assert np.bincount(rows, lengths).max() <= room
    assert source.sum() / (64 * num_rows) > 0.96
