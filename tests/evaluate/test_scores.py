"""Scores are those of the sacrebleu command on the same files."""
# SPDX-License-Identifier: Apache-2.0

import json
import pathlib
import random
import subprocess
import sys

import numpy as np
import pytest

from gshard_mt.evaluate import scores

WORDS = "the a house , red . is small old not don't 1,000 “quoted” café and street - it".split()


def make_corpus(num_sentences: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Returns hypotheses and references: the references, with a tenth of the words changed."""
    rng = random.Random(seed)
    references = [" ".join(rng.choices(WORDS, k=rng.randint(1, 20))) for _ in range(num_sentences)]
    hypotheses = [
        " ".join(rng.choice(WORDS) if rng.random() < 0.1 else word for word in line.split())
        for line in references
    ]
    hypotheses[0] = ""
    return hypotheses, references


def ask_command(folder: pathlib.Path, metric: str, *arguments: str) -> dict:
    command = [sys.executable, "-m", "sacrebleu", "reference", "-i", "hypothesis", "-m", metric]
    done = subprocess.run(
        [*command, "-w", "6", *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scores")
    hypotheses, references = make_corpus(80)
    (folder / "hypothesis").write_text("\n".join(hypotheses) + "\n", encoding="utf-8")
    (folder / "reference").write_text("\n".join(references) + "\n", encoding="utf-8")
    return folder, scores.score(hypotheses, references)


@pytest.mark.parametrize("metric", ["bleu", "chrf"])
def test_score_and_signature_are_those_of_the_sacrebleu_command(corpus, metric):
    folder, found = corpus
    printed = ask_command(folder, metric)
    assert getattr(found, metric) == pytest.approx(printed["score"], abs=1e-5)
    assert scores.signatures()[metric] == printed["signature"]


def test_the_interval_is_as_wide_as_sacrebleus(corpus):
    folder, found = corpus
    printed = ask_command(folder, "bleu", "--confidence")
    half_width = (found.bleu_high - found.bleu_low) / 2
    # sacreBLEU takes order statistics of the same draws where we interpolate quantiles.
    assert half_width == pytest.approx(printed["confidence_var"], abs=0.1)
    assert found.bleu_low < found.bleu < found.bleu_high


def test_the_interval_is_sacrebleus_without_common_4_grams_too(tmp_path):
    """The score is smoothed, and so is that of every resampled test set."""
    rng = random.Random(3)
    sides = [[" ".join(rng.choices(WORDS, k=6)) for _ in range(12)] for _ in range(2)]
    for name, lines in zip(("hypothesis", "reference"), sides, strict=True):
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    found, printed = scores.score(*sides), ask_command(tmp_path, "bleu", "--confidence")
    assert scores.resample(*sides).mean() == pytest.approx(printed["confidence_mean"], abs=1e-3)
    half_width = (found.bleu_high - found.bleu_low) / 2
    assert half_width == pytest.approx(printed["confidence_var"], abs=0.1)
    assert 0 < found.bleu_low < found.bleu < found.bleu_high


def test_an_interval_is_as_wide_as_the_resampled_scores_and_contains_the_score():
    drawn = np.linspace(10.0, 14.0, 1001)  # their mean is 12
    assert scores.interval(13.0, drawn) == pytest.approx((11.1, 14.9))
    assert scores.interval(1.0, drawn) == pytest.approx((0.0, 2.9))
    assert scores.interval(99.0, drawn) == pytest.approx((97.1, 100.0))
    assert scores.interval(-1.0, drawn, least=-100.0) == pytest.approx((-2.9, 0.9))


def test_identical_text_scores_100_with_an_interval_of_width_0():
    references = ["a small house is old .", "the street is not red ."]
    found = scores.score(references, references)
    assert [found.bleu, found.bleu_low, found.bleu_high, found.chrf] == pytest.approx([100.0] * 4)
    assert found.sentences == 2


def test_empty_hypotheses_score_0():
    found = scores.score(["", ""], ["a house", "a street"])
    assert (found.bleu, found.bleu_low, found.bleu_high, found.chrf) == (0, 0, 0, 0)


@pytest.mark.parametrize("sides", [([], []), (["a"], ["a", "b"])])
def test_empty_lists_and_lists_of_different_length_are_refused(sides):
    with pytest.raises(ValueError):
        scores.score(*sides)


@pytest.mark.parametrize("change", [0.1, 0.12, 0.2])
def test_a_comparison_is_that_of_the_sacrebleu_command(corpus, change):
    folder, own = corpus
    rng = random.Random(7)
    references = (folder / "reference").read_text(encoding="utf-8").splitlines()
    baseline = [
        " ".join(rng.choice(WORDS) if rng.random() < change else word for word in line.split())
        for line in references
    ]
    (folder / "baseline").write_text("\n".join(baseline) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "sacrebleu", "reference", "-i", "baseline", "hypothesis"]
    done = subprocess.run(
        [*command, "-m", "bleu", "-w", "6", "--paired-bs", "-f", "json"],
        cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    first, second = (system["BLEU"] for system in json.loads(done.stdout))
    hypotheses = (folder / "hypothesis").read_text(encoding="utf-8").splitlines()
    found = scores.compare(hypotheses, baseline, references)
    assert found.baseline_bleu == pytest.approx(first["score"], abs=1e-6)
    assert found.delta_bleu == pytest.approx(own.bleu - first["score"], abs=1e-6)
    assert found.p_value == pytest.approx(second["p_value"], abs=1e-6)
    assert found.is_significant == (second["p_value"] < 0.05)


def test_a_system_is_no_better_than_itself():
    hypotheses, references = make_corpus(30)
    found = scores.compare(hypotheses, hypotheses, references)
    assert found.delta_bleu == 0 and not found.is_significant
    with pytest.raises(ValueError, match="30 and 29 hypotheses, 30 references"):
        scores.compare(hypotheses, hypotheses[1:], references)
