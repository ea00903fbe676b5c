"""Comparisons of runs: numbers as sacreBLEU and a pencil compute them, and refusals."""
# SPDX-License-Identifier: Apache-2.0

import csv
import json
import pathlib
import shutil

import numpy as np
import pytest

from gshard_mt.errors import CheckpointError, DataError
from gshard_mt.evaluate import comparison_page
from gshard_mt.evaluate.comparison import (
    RunComparison,
    compare_runs,
    loss_levels,
    tokens_to_reach,
)
from gshard_mt.evaluate.folder import read_evaluation
from gshard_mt.evaluate.scores import compare, interval, resample
from gshard_mt.report.page import to_text
from tests.evaluate.made_evaluations import REFERENCES, leave, worsen
from tests.evaluate.test_report import Page

EVIL = "<script>alert(1)</script>|"
POOR = {pair: worsen(lines, 6) for pair, lines in REFERENCES.items()}
BETTER = POOR | {"de-en": REFERENCES["de-en"], "fr-en": worsen(REFERENCES["fr-en"], 5)}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> list[pathlib.Path]:
    home = tmp_path_factory.mktemp("runs")
    return [
        leave(home / "dense", POOR, (5.0, 4.0, 3.4)),
        leave(home / "moe", BETTER, (4.9, 3.6, 3.1), routes=True),
    ]


@pytest.fixture(scope="module")
def comparison(folders) -> RunComparison:
    return compare_runs([read_evaluation(folder) for folder in folders])


def test_differences_are_those_of_a_paired_bootstrap(comparison):
    first, second = comparison.summaries()
    expected = {pair: compare(BETTER[pair], POOR[pair], REFERENCES[pair]) for pair in REFERENCES}
    for row in comparison.rows[1]:
        assert row.comparison and row.score.bleu - row.comparison.baseline_bleu == pytest.approx(
            expected[row.pair].delta_bleu
        )
        assert row.comparison.p_value == expected[row.pair].p_value
    deltas = [each.delta_bleu for each in expected.values()]
    mean = second["averages"]["all"]
    assert mean["delta_bleu"] == pytest.approx(sum(deltas) / 3)
    drawn = [
        resample(BETTER[pair], REFERENCES[pair]) - resample(POOR[pair], REFERENCES[pair])
        for pair in REFERENCES
    ]
    ends = interval(mean["delta_bleu"], np.mean(drawn, 0), least=-100.0)
    assert (mean["delta_low"], mean["delta_high"]) == pytest.approx(ends)
    assert second["better"] == ["de-en"] and second["worse"] == []
    assert "better" not in first and "delta_bleu" not in first["averages"]["all"]


def test_a_summary_covers_a_run_up_to_its_evaluated_step(comparison):
    first, second = comparison.summaries()
    assert (first["name"], second["name"]) == ("dense", "moe")
    assert (first["checkpoint"], first["step"], first["parameters"]) == ("30", 30, 5000)
    assert (first["target_tokens"], first["seconds"]) == (3000, 150.0)  # without compilation
    assert (first["dev_nll"], second["dev_nll"]) == pytest.approx((3.4, 3.1))


def test_an_earlier_checkpoint_and_an_average_are_told_apart(folders, tmp_path):
    shutil.copytree(folders[0].parents[2], tmp_path / "run")
    earlier, average = (tmp_path / "run" / "eval" / name / "test" for name in ("20", "average-30"))
    for folder, step in ((earlier, 20), (average, 30)):
        shutil.copytree(folders[0], folder)
        table = json.loads((folder / "table.json").read_text())
        (folder / "table.json").write_text(json.dumps(table | {"step": step}))
    comparison = compare_runs([read_evaluation(earlier), read_evaluation(average)])
    first, second = comparison.summaries()
    assert (first["target_tokens"], first["dev_nll"]) == (2000, pytest.approx(4.0))
    assert (second["target_tokens"], second["dev_nll"]) == (3000, None)
    assert [each.name for each in comparison.evaluations] == ["run", "run average-30"]


def test_tokens_to_a_loss_are_interpolated_between_evaluations():
    curve = [(1000, 5.0), (2000, 4.0), (3000, 4.2), (4000, 3.2)]
    assert tokens_to_reach(curve, 4.5) == pytest.approx(1500)
    assert tokens_to_reach(curve, 4.0) == pytest.approx(2000)
    assert tokens_to_reach(curve, 3.7) == pytest.approx(3500)
    assert tokens_to_reach(curve, 6.0) == 1000
    assert tokens_to_reach(curve, 3.0) is None
    assert tokens_to_reach([], 3.0) is None


def test_loss_levels_are_round_and_within_reach_of_the_runs():
    def curve(*nlls):
        return list(enumerate(nlls))

    assert loss_levels([curve(6.0, 3.1), curve(5.8, 3.4)]) == [5.0, 4.5, 4.0, 3.5]
    assert loss_levels([curve(3.5, 3.0)]) == [3.4, 3.2, 3.0]
    assert loss_levels([curve(3.015, 3.0)]) == [3.01, 3.0]
    assert loss_levels([curve(3.0)]) == loss_levels([]) == loss_levels([[]]) == []


def test_tokens_by_level_has_one_value_per_run(comparison):
    found = comparison.tokens_by_level()
    assert list(found) == [4.5, 4.0, 3.5]
    assert found[4.0] == pytest.approx([2000, 1000 + 1000 * 0.9 / 1.3])
    assert found[3.5] == pytest.approx([2000 + 1000 * 0.5 / 0.6, 2000 + 1000 * 0.1 / 0.5])


def test_routing_is_the_mean_over_layers_of_runs_with_experts(comparison):
    assert list(comparison.routing()) == ["moe"]
    routing = comparison.routing()["moe"]
    assert routing["sent_to_0"] == pytest.approx(3 / 110)
    assert routing["sent_to_2"] == pytest.approx(52 / 110)
    assert routing["sent_to_more"] == pytest.approx(0)
    assert routing["entropy"] == pytest.approx(99 / 110)


def test_all_files_have_the_same_numbers(comparison, tmp_path):
    comparison_page.write(comparison, tmp_path)
    record = json.loads((tmp_path / "comparison.json").read_text())
    assert record["format_version"] == 1 and "bleu" in record["signatures"]
    row = record["rows"][0]
    assert (row["pair"], row["bucket"], row["train_pairs"]) == ("de-en", "high", 1000)
    with open(tmp_path / "comparison.csv", newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    for line, row in zip(lines, record["rows"], strict=True):
        assert float(line["moe bleu"]) == row["runs"]["moe"]["bleu"]
        assert float(line["moe p_value"]) == row["runs"]["moe"]["p_value"]
    assert "dense delta_bleu" not in lines[0]
    text = (tmp_path / "comparison.md").read_text(encoding="utf-8")
    delta = record["runs"][1]["averages"]["all"]["delta_bleu"]
    assert f"| {delta:+.1f} |" in text and "| 100.0 * |" in text
    assert f" {delta:+.1f} " in to_text(comparison_page.make_page(comparison))
    names = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert names == {"learning_curves.png", "bleu_gain.png"}


def test_a_run_name_with_html_is_escaped(folders, tmp_path):
    several = [read_evaluation(folders[0], EVIL), read_evaluation(folders[1])]
    page = Page(comparison_page.write(compare_runs(several), tmp_path))
    assert page.sections == ["runs", "languages", "tokens", "routing"]
    assert len(page.all("script")) == 1 and EVIL in page.texts and len(page.all("img")) == 2
    text = (tmp_path / "comparison.md").read_text(encoding="utf-8")
    assert "<script>" not in text.replace("\\<script>", "")
    lines = [line.replace("\\|", "") for line in text.splitlines() if line.startswith("| pair")]
    assert [line.count("|") for line in lines] == [7]


def test_pictures_have_room_for_many_runs(folders):
    from gshard_mt.evaluate.figures import draw_comparison

    one, other = (read_evaluation(folder) for folder in folders)
    comparison = compare_runs([one, *[other] * 2])
    assert [each.name for each in comparison.evaluations] == ["dense", "moe", "moe 30"]
    many = RunComparison(
        tuple(other._replace(name=f"run {number}") for number in range(12)),
        (comparison.rows[0], *[comparison.rows[1]] * 11),
    )
    assert [figure.name for figure in draw_comparison(many)] == ["learning_curves", "bleu_gain"]


def test_other_references_and_other_folders_are_refused(folders, tmp_path):
    lines = REFERENCES | {"fr-en": worsen(REFERENCES["fr-en"], 1)}
    other = read_evaluation(leave(tmp_path / "other", BETTER, references=lines))
    with pytest.raises(DataError, match=r"other: found other references .*1 lang.*, such as fr-en"):
        compare_runs([read_evaluation(folders[0]), other])
    fewer = {pair: REFERENCES[pair] for pair in ("de-en", "fr-en")}
    fewer = read_evaluation(leave(tmp_path / "fewer", BETTER, references=fewer))
    with pytest.raises(DataError, match="such as hr-en"):
        compare_runs([read_evaluation(folders[0]), fewer])
    with pytest.raises(DataError, match=r"table.json: can't be read .*give a folder that gsh"):
        read_evaluation(tmp_path)
    folder = tmp_path / "fewer" / "eval" / "20" / "test"
    (folder / "fr-en.ref.txt").unlink()
    with pytest.raises(DataError, match="fr-en.ref.txt: can't be read"):
        read_evaluation(folder)
    (tmp_path / "other" / "config.json").unlink()
    with pytest.raises(CheckpointError, match="is .* a run directory"):
        read_evaluation(tmp_path / "other" / "eval" / "20" / "test")
    (folder / "table.json").write_text('{"format_version": 7}')
    with pytest.raises(DataError, match="found format_version 7"):
        read_evaluation(folder)
