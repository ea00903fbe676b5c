"""The evaluation's table in its four forms, its buckets and its averages."""
# SPDX-License-Identifier: Apache-2.0

import csv
import dataclasses
import json
import random

import pytest

from gshard_mt.evaluate import table as tables
from gshard_mt.evaluate.scores import Comparison, Score, score
from gshard_mt.evaluate.table import ScoreTable

SCORES = {
    "de-en": Score(500, 23.44, 22.1, 24.8, 45.6),
    "fr-en": Score(500, 30.0, 29.0, 31.0, 50.0),
    "is-en": Score(100, 10.0, 8.0, 12.0, 30.0),
    "sv-en": Score(100, 20.0, 18.0, 22.0, 40.0),
}
TRAIN_PAIRS = {"is-en": 900, "de-en": 12345, "sv-en": 2000, "fr-en": 2000}


@pytest.fixture
def table() -> ScoreTable:
    rows = tables.make_rows(SCORES, TRAIN_PAIRS)
    return ScoreTable(
        2000, "test", 12345678, 2345678, {"bleu": "nrefs:1|tok:13a", "chrf": "x"}, rows
    )


def test_rows_run_from_high_to_low_resource(table):
    assert [row.pair for row in table.rows] == ["de-en", "fr-en", "sv-en", "is-en"]
    assert [row.bucket for row in table.rows] == ["high", "mid", "mid", "low"]
    assert [row.language for row in table.rows] == ["German", "French", "Swedish", "Icelandic"]


def test_buckets_are_a_quarter_a_half_and_a_quarter_as_in_the_paper():
    names = list(tables.buckets({f"pair{n:03}": n for n in range(102)}).values())
    assert [names.count(name) for name in tables.BUCKETS] == [25, 52, 25]
    assert tables.buckets({"a": 1, "b": 2}) == {"a": "low", "b": "high"}
    assert tables.buckets({"a": 1, "b": 2, "c": 3}) == {"a": "low", "b": "mid", "c": "high"}
    assert tables.buckets({"a": 1}) == {"a": "mid"}
    assert tables.buckets({}) == {}


def test_buckets_come_from_all_trained_language_pairs_even_if_only_one_is_scored():
    (row,) = tables.make_rows({"is-en": SCORES["is-en"]}, TRAIN_PAIRS)
    assert (row.bucket, row.train_pairs) == ("low", 900)


def test_a_language_pair_never_trained_on_is_low_with_no_training_pairs():
    (row,) = tables.make_rows({"da-en": SCORES["sv-en"]}, {"de-en": 10})
    assert (row.bucket, row.train_pairs, row.language) == ("low", 0, "Danish")


def test_averages_are_over_language_pairs_and_empty_buckets_are_empty(table):
    means = tables.averages(table.rows)
    assert means["all"]["bleu"] == pytest.approx((23.44 + 30 + 10 + 20) / 4)
    assert means["mid"] == {"bleu": 25.0, "chrf": 45.0}
    high = tuple(row for row in table.rows if row.bucket == "high")
    assert tables.averages(high)["low"] == {}
    assert tables.averages(()) == {"all": {}, "high": {}, "mid": {}, "low": {}}


@pytest.mark.parametrize(
    "pairs, shown",
    [
        ("de-en", []),
        ("de-en is-en", ["all"]),
        ("de-en fr-en is-en", ["all"]),
        ("de-en fr-en sv-en is-en", ["all", "mid"]),
    ],
)
def test_few_languages_have_no_averages_that_repeat_their_rows(pairs, shown):
    some = {pair: SCORES[pair] for pair in pairs.split()}
    rows = tables.make_rows(some, {pair: TRAIN_PAIRS[pair] for pair in some})
    assert list(tables.shown_averages(rows)) == shown
    footer = tables.formatted(ScoreTable(1, "test", 1, 1, {}, rows)).footer
    assert [line[3] for line in footer] == shown


def test_the_interval_of_an_average_of_small_sets_contains_it():
    """Resampled sets of ten sentences score lower on average, and averaging keeps that bias."""
    rng = random.Random(0)
    sides = [[" ".join(rng.choices("abcdef", k=6)) for _ in range(270)] for _ in range(2)]
    parts = [[side[start : start + 10] for side in sides] for start in range(0, 270, 10)]
    codes = "af ar bg bn ca cs cy da de el es et eu fa fi fr ga gl he hi hr hu hy id is it ja"
    found = {f"{code}-en": score(*both) for code, both in zip(codes.split(), parts, strict=True)}
    mean = tables.averages(tables.make_rows(found, dict.fromkeys(found, 1)))["all"]
    below, above = mean["bleu"] - mean["bleu_low"], mean["bleu_high"] - mean["bleu"]
    assert below > 0.1 and 0.5 < below / above < 2


def test_json_has_the_fields_that_scripts_rely_on(table, tmp_path):
    tables.write(table, tmp_path / "eval" / "2000" / "test")
    found = json.loads((tmp_path / "eval" / "2000" / "test" / "table.json").read_text())
    assert list(found) == [
        "format_version", "step", "split", "parameters", "active_parameters", "signatures", "rows",
        "averages",
    ]  # fmt: skip
    assert found["format_version"] == 1 and found["step"] == 2000 and found["split"] == "test"
    assert found["rows"][0] == {
        "pair": "de-en", "language": "German", "train_pairs": 12345, "bucket": "high",
        "sentences": 500, "bleu": 23.44, "bleu_low": 22.1, "bleu_high": 24.8, "chrf": 45.6,
    }  # fmt: skip
    assert set(found["averages"]) == {"all", "high", "mid", "low"}


def strange(table: ScoreTable) -> ScoreTable:
    """Returns the table with one row, whose language Markdown and CSV must escape."""
    row = dataclasses.replace(table.rows[0], language='Old "High", | German')
    return dataclasses.replace(table, rows=(row,))


def test_csv_reads_back_as_the_rows(table, tmp_path):
    tables.write(strange(table), tmp_path)
    with open(tmp_path / "table.csv", newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert list(row) == list(table.rows[0].to_fields()) and "comparison" not in row
    assert row["language"] == 'Old "High", | German' and float(row["bleu"]) == 23.44


def test_markdown_has_the_same_number_of_cells_in_every_line(table):
    text = tables.to_markdown(strange(table))
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in lines} == {9}
    assert 'Old "High", \\| German' in text and "`nrefs:1|tok:13a`" in text


def test_text_is_aligned_and_rounded_as_sacrebleu_prints(table):
    lines = tables.to_text(table).splitlines()
    assert "23.4  22.1-24.8  45.6" in lines[2]
    assert len({len(line) for line in lines[:2]}) == 1
    assert lines[-2] == "bleu: nrefs:1|tok:13a"


@pytest.fixture
def compared(table) -> ScoreTable:
    """The same scores with a baseline: two pairs better, two worse, one of each significantly."""
    comparisons = {
        "de-en": Comparison(20.0, 3.44, 0.001),
        "fr-en": Comparison(29.9, 0.1, 0.6),
        "sv-en": Comparison(20.5, -0.5, 0.0501),
        "is-en": Comparison(12.0, -2.0, 0.0499),
    }
    return dataclasses.replace(table, rows=tables.make_rows(SCORES, TRAIN_PAIRS, comparisons))


def test_a_baseline_adds_its_columns_everywhere(compared, tmp_path):
    tables.write(compared, tmp_path)
    found = json.loads((tmp_path / "table.json").read_text())
    row = found["rows"][0]
    assert (row["baseline_bleu"], row["delta_bleu"], row["p_value"]) == (20.0, 3.44, 0.001)
    assert found["averages"]["mid"] == pytest.approx(
        {"bleu": 25.0, "chrf": 45.0, "baseline_bleu": 25.2, "delta_bleu": -0.2}
    )
    with open(tmp_path / "table.csv", newline="", encoding="utf-8") as file:
        assert [line["p_value"] for line in csv.DictReader(file)] == [
            *("0.001", "0.6", "0.0501", "0.0499")
        ]
    lines = (tmp_path / "table.md").read_text(encoding="utf-8").splitlines()
    assert {line.count("|") for line in lines if line.startswith("|")} == {12}
    text = tables.to_text(compared).splitlines()
    assert text[0].split()[-3:] == ["baseline", "delta", "p"]
    assert text[2].split()[-3:] == ["20.0", "+3.4", "0.0010"]
    (mid,) = (line.split() for line in text if line.startswith("average") and "mid" in line)
    assert mid[-2:] == ["25.2", "-0.2"]  # an average has no p-value


def test_significant_differences_are_named(compared, table):
    assert tables.differences(compared.rows) == [
        "better than the baseline at p < 0.05: 1 of 4: de-en",
        "worse than the baseline at p < 0.05: 1 of 4: is-en",
    ]
    assert tables.differences(table.rows) == []
