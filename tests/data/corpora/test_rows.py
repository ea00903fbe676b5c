"""A null in a row is a translation that is missing, wherever it stands."""
# SPDX-License-Identifier: Apache-2.0

import json

import pyarrow as pa
import pytest

from gshard_mt.data.corpora.entry import Pair
from gshard_mt.errors import DataError
from tests.data.corpora import samples
from tests.data.corpora.samples import read

HOUSE = {"de": "Haus", "en": "house"}


@pytest.mark.parametrize(
    ("good", "nulls"),
    [
        (
            {"translation": HOUSE},
            [
                {"translation": None},
                {"translation": None, "id": 7},
                {"translation": {"de": None, "en": None}},
                {"translation": {"de": "x", "en": None}},
                None,
            ],
        ),
        (
            {"translations": {"language": ["de", "en"], "translation": ["Haus", "house"]}},
            [
                {"translations": None},
                {"translations": {"language": None, "translation": None}},
                {"translations": {"language": ["de", "en"], "translation": None}},
                {"translations": {"language": [None, "en"], "translation": ["x", "y"]}},
                {"translations": {"language": ["de", "en"], "translation": [None, "y"]}},
                {"translations": {"language": [], "translation": []}},
            ],
        ),
        (
            {"source": "Haus", "target": "house"},
            [{"source": None, "target": "x"}, {"source": None, "target": None}],
        ),
        (HOUSE, [{"de": None, "en": "x"}, {"de": "x", "en": None}, {"de": None, "en": None}]),
    ],
    ids=["struct", "lists", "sides", "columns"],
)
def test_rows_of_nulls_are_passed_over(tmp_path, good, nulls):
    rows = [good, *nulls, good]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert read(tmp_path, "jsonl", "a.jsonl") == [Pair("de", "Haus", "house")] * 2
    rows = [row for row in rows if row is not None]
    table = pa.Table.from_pylist([{name: row[name] for name in good} for row in rows])
    (tmp_path / "a.parquet").write_bytes(
        samples.parquet(dict(zip(table.column_names, table, strict=True)))
    )
    assert read(tmp_path, "parquet", "a.parquet") == [Pair("de", "Haus", "house")] * 2


def test_a_null_beside_columns_of_languages_hides_nothing(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"translation": None, **HOUSE}))
    assert read(tmp_path, "jsonl", "a.jsonl") == [Pair("de", "Haus", "house")]


@pytest.mark.parametrize(
    "rows", ['{"translation": null}\n' * 3, "null\n", '{"de": null, "en": "x"}']
)
def test_a_file_of_nulls_only_has_no_pairs(tmp_path, rows):
    (tmp_path / "a.jsonl").write_text(rows)
    with pytest.raises(DataError, match="a.jsonl: no pairs of de"):
        read(tmp_path, "jsonl", "a.jsonl")


@pytest.mark.parametrize("empty", ["", " ", None])
def test_of_several_english_texts_the_first_with_text_is_taken(tmp_path, empty):
    row = {"translation": {"en-GB": empty, "en-US": "The color", "en": "The hue", "de": "Farbe"}}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    assert read(tmp_path, "jsonl", "a.jsonl") == [Pair("de", "Farbe", "The color")]
