"""Lengths are judged by the usual ratio of the shard's pairs so far."""
# SPDX-License-Identifier: Apache-2.0

from gshard_mt.config.records import DataConfig
from gshard_mt.data.prepare.shards import Lengths, why_drop


def _ids(*lengths: int) -> list[list[int]]:
    return [[0] * length for length in lengths]


def test_a_small_last_block_is_judged_by_those_before():
    lengths = Lengths([], [])
    lengths.add(_ids(*[30] * 50, 90), _ids(*[10] * 50, 4))
    assert why_drop("train", lengths, DataConfig())["length_ratio"].tolist() == [False] * 50 + [
        True
    ]
    lengths.add(_ids(33, 4), _ids(11, 40))
    assert why_drop("train", lengths, DataConfig())["length_ratio"].tolist() == [False, True]


def test_without_a_limit_or_pairs_no_ratio_is_asked():
    config = DataConfig()
    lengths = Lengths([], [])
    lengths.add([], [])
    assert "length_ratio" not in why_drop("train", lengths, config)
    lengths.add(_ids(60), _ids(1))
    config.cleaning.max_length_ratio = 0.0
    assert "length_ratio" not in why_drop("train", lengths, config)
    assert why_drop("dev", lengths, config)["dev_row_length"].tolist() == [False]
    assert not why_drop("test", lengths, config)
