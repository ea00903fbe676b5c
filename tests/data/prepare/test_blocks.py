"""Blocks hold every pair once, in order, however languages alternate; also on disk."""
# SPDX-License-Identifier: Apache-2.0

from collections import defaultdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gshard_mt.config.records import CleaningConfig
from gshard_mt.data.corpora.entry import Pair
from gshard_mt.data.prepare import blocks
from gshard_mt.data.prepare.blocks import cut_blocks, read_drops, read_keys, read_text, write_drops
from gshard_mt.data.prepare.clean_rows import clean_block

PAIRS = st.lists(
    st.builds(Pair, st.sampled_from(["de", "fr", "lb"]), st.text(max_size=9), st.text(max_size=9))
)


@given(PAIRS, st.integers(1, 5), st.integers(10, 60))
def test_every_pair_is_in_one_block_of_its_tag_in_order(pairs, block_pairs, buffered):
    sizes = blocks.BLOCK_PAIRS, blocks._BUFFER_CHARACTERS
    blocks.BLOCK_PAIRS, blocks._BUFFER_CHARACTERS = block_pairs, buffered
    try:
        cut = list(cut_blocks(iter(pairs), 2, "train"))
    finally:
        blocks.BLOCK_PAIRS, blocks._BUFFER_CHARACTERS = sizes
    found = defaultdict(list)
    for block in cut:
        assert 0 < len(block.source) <= block_pairs
        for id, source, english in zip(block.id, block.source, block.english, strict=True):
            assert pairs[int(id) - (2 << 40)] == (block.tag, source, english)
            found[block.tag].append(int(id))
    assert sum(map(len, found.values())) == len(pairs)
    assert all(ids == sorted(ids) for ids in found.values())


def test_a_block_on_disk_is_what_was_cleaned(tmp_path):
    pairs = [Pair("de", f"das Haus {i}", f"the house {i}") for i in range(5)]
    pairs[3] = Pair("de", "", "nothing")
    (raw,) = cut_blocks(iter(pairs), 0, "train")
    num_read, block, drops = clean_block(raw, CleaningConfig(), tmp_path)
    assert num_read == 5 and drops.counts("de") == {"empty": 1}
    assert block is not None and block.num_pairs == 4
    source, english = read_text(block)
    assert source == [f"das Haus {i}" for i in (0, 1, 2, 4)] and english[-1] == "the house 4"
    assert read_keys(block)["id"].tolist() == [0, 1, 2, 4]
    write_drops(block, np.array([0, 1, 0, 2]))
    assert read_drops(block).tolist() == [0, 1, 0, 2]


def test_a_block_without_a_good_pair_leaves_nothing(tmp_path):
    (raw,) = cut_blocks(iter([Pair("de", "", "")]), 0, "train")
    assert clean_block(raw, CleaningConfig(), tmp_path)[1] is None
    assert not list(tmp_path.iterdir())
