"""Rows of every shape give the pairs that they hold, whatever else stands beside them."""
# SPDX-License-Identifier: Apache-2.0

import json

import pyarrow as pa
import pytest

from gshard_mt.data.corpora.entry import Pair
from tests.data.corpora import samples
from tests.data.corpora.samples import GERMAN, PAIRS, read


@pytest.mark.parametrize(
    "rows",
    [
        [{"translation": {"de": s, "en": e, "fr": 3}, "id": 7} for s, e in PAIRS],
        [{"de": s, "en": e, "score": 0.5} for s, e in PAIRS],
        [{"deu": s, "eng": e} for s, e in PAIRS],
        [{"translation": {"de-AT": s, "en_GB": e}} for s, e in PAIRS],
        [{"source": s, "target": e} for s, e in PAIRS],
        [
            {"translations": {"language": ["en", "fr", "de"], "translation": [e, "x", s]}}
            for s, e in PAIRS
        ],
    ],
)
def test_rows_of_every_shape_give_the_pairs(tmp_path, rows):
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    plain = [pair._replace(language="de") for pair in read(tmp_path, "jsonl", "a.jsonl")]
    assert plain == GERMAN
    if rows[0].get("id") != 7:  # a column of texts and numbers is not for Parquet
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        (tmp_path / "a.parquet").write_bytes(samples.parquet(columns))
        assert read(tmp_path, "parquet", "a.parquet") == read(tmp_path, "jsonl", "a.jsonl")


def test_each_wanted_language_of_a_row_is_a_pair(tmp_path):
    rows = [
        {"translation": {"de": "Haus", "fr": "maison", "en": "house", "en-GB": "home"}},
        {"translation": {"de": None, "fr": "eau", "en": "water"}},
        {"translation": {"de": "Tag", "fr": "jour", "en": None}},
        {"translation": {"cs": "den", "en": "day"}},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = read(tmp_path, "jsonl", "a.jsonl", ["fr", "de"])
    assert found == [
        Pair("de", "Haus", "house"),
        Pair("fr", "maison", "house"),
        Pair("fr", "eau", "water"),
    ]
    every = read(tmp_path, "jsonl", "a.jsonl", ["*"])
    assert every == [*found, Pair("cs", "den", "day")]


def test_half_a_character_becomes_a_replacement_character(tmp_path):
    (tmp_path / "a.jsonl").write_text(r'{"de": "a\ud83d", "en": "\ude00b \ud83d\ude00"}')
    assert read(tmp_path, "jsonl", "a.jsonl") == [Pair("de", "a\ufffd", "\ufffdb 😀")]
    texts = {"en": rb'{"k": "\ud800"}', "de": rb'{"k": "\udfff!"}'}
    members = {f"x/translations/{name}.json": text for name, text in texts.items()}
    (tmp_path / "a.whl").write_bytes(samples.archive(members))
    assert read(tmp_path, "wheel", "a.whl") == [Pair("de", "\ufffd!", "\ufffd")]


def test_parquet_is_read_batch_after_batch(tmp_path, monkeypatch):
    number = 3000
    columns = {"de": [f"Haus {n}" for n in range(number)], "en": ["x"] * number}
    (tmp_path / "a.parquet").write_bytes(samples.parquet(columns))
    found = read(tmp_path, "parquet", "*.parquet")
    assert [pair.source for pair in found] == columns["de"]


def test_parquet_takes_texts_of_a_dictionary_and_large_ones(tmp_path):
    columns = {
        "de": pa.array([source for source, _ in PAIRS]).dictionary_encode(),
        "en": pa.array([english for _, english in PAIRS], pa.large_string()),
        "id": [1, 2, 3],
    }
    (tmp_path / "a.parquet").write_bytes(samples.parquet(columns))
    assert read(tmp_path, "parquet", "a.parquet") == GERMAN
