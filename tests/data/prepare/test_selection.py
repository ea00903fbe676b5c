"""Selection: a limit on a corpus leaves that many pairs, evenly spread, and counts the others."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gshard_mt.data.prepare.dedup import DUPLICATE, KEPT
from gshard_mt.data.prepare.keys import ENTRY_SHIFT
from gshard_mt.data.prepare.prepare import prepare
from gshard_mt.data.prepare.selection import mark_surplus
from gshard_mt.data.prepared import open_prepared
from gshard_mt.data.records import record_id
from tests.making.made_up import english_sentences, translated, write_made_up, write_recipe


@given(st.lists(st.lists(st.booleans(), max_size=30), min_size=1, max_size=5), st.integers(1, 80))
def test_of_all_blocks_together_the_most_are_kept_evenly_spread(blocks, most):
    marks = [np.where(kept, KEPT, DUPLICATE).astype(np.uint8) for kept in blocks]
    counts = [int(np.sum(mark == KEPT)) for mark in marks]
    before = np.cumsum([0, *counts])
    found = [
        mark_surplus(mark, int(start), sum(counts), most)
        for mark, start in zip(marks, before, strict=False)
    ]
    was_kept, drop = np.concatenate(marks) == KEPT, np.concatenate(found)
    assert np.sum(drop == KEPT) == min(most, sum(counts))
    assert np.array_equal(drop == DUPLICATE, ~was_kept)  # nothing else is touched
    # Between two kept pairs as many are left out as anywhere else, or one more.
    gaps = np.diff(np.flatnonzero(drop[was_kept] == KEPT))
    assert gaps.size == 0 or gaps.max() - gaps.min() <= 1


def test_weight_and_limit_of_a_corpus_reach_the_prepared_data(tmp_path):
    config = write_made_up(tmp_path)
    english = english_sentences()
    tables = []
    for name, some in {"mined": english[:200], "clean": english[200:320]}.items():
        lines = "".join(f"{translated(text, 'de')}\t{text}\n" for text in some)
        (tmp_path / f"{name}.tsv").write_text(lines, encoding="utf-8")
        tables.append({"language": "de", "source": f"tsv:{name}.tsv", "license": "x"})
    tables[0] |= {"max_pairs": 50}
    tables[1] |= {"weight": 3.0}
    write_recipe(tmp_path, tables)
    lengths = {"source_length": 90, "target_length": 90}
    config = dataclasses.replace(config, num_dev=10, num_test=10, **lengths)
    manifest, _ = prepare(config, tmp_path / "data")
    prepared = open_prepared(tmp_path / "data")
    mined, clean = prepared.corpora["de-en"]
    assert (mined.name, mined.weight, mined.pairs) == ("mined", 1.0, 50)
    assert (clean.name, clean.weight) == ("clean", 3.0) and clean.pairs > 90
    assert mined.pairs + clean.pairs == prepared.train_pairs["de-en"]
    tokens = mined.source_tokens + clean.source_tokens, mined.target_tokens + clean.target_tokens
    assert tokens == prepared.num_tokens["de-en"]["train"]
    # Every pair is a training pair, held out or counted; the records are in the order of corpora.
    drops = manifest["pairs"]["de-en"]["drops"]
    assert drops["max_pairs"] > 100
    splits = prepared.num_examples["de-en"]
    assert sum(splits.values()) + sum(drops.values()) == 320
    contents = prepared.reader("de-en", "train").read_contents(range(splits["train"]))
    numbers = [record_id(content) >> ENTRY_SHIFT for content in contents]
    assert numbers == [0] * mined.pairs + [1] * clean.pairs
    report = (tmp_path / "data" / "report.md").read_text(encoding="utf-8")
    assert "max_pairs" in report and "| de-en | clean |" in " ".join(report.split(" "))
