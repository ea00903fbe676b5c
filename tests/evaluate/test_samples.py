"""The best and the worst sentences are those of sacreBLEU's sentence chrF."""
# SPDX-License-Identifier: Apache-2.0

import subprocess
import sys

import pytest

from gshard_mt.evaluate import samples
from gshard_mt.evaluate.scores import sentence_chrf

REFERENCES = [f"the number {number} is in this sentence" for number in range(10)]
HYPOTHESES = [line[: 3 * number] for number, line in enumerate(REFERENCES)]


def test_a_sentences_chrf_is_that_of_the_sacrebleu_command(tmp_path):
    for name, lines in (("reference", REFERENCES), ("hypothesis", HYPOTHESES)):
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "sacrebleu", "reference", "-i", "hypothesis", "-m", "chrf"]
    done = subprocess.run(
        [*command, "--sentence-level", "-b", "-w", "6"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    printed = [float(line.split()[-1]) for line in done.stdout.splitlines()]
    assert sentence_chrf(HYPOTHESES, REFERENCES) == pytest.approx(printed, abs=1e-5)


def test_the_best_and_the_worst_come_first():
    found = samples.choose(["Satz"] * 10, REFERENCES, HYPOTHESES)
    assert [sample.hypothesis for sample in found.best] == HYPOTHESES[:-4:-1]
    assert [sample.hypothesis for sample in found.worst] == HYPOTHESES[:3]
    chrfs = [sample.chrf for sample in (*found.best, *found.worst[::-1])]
    assert chrfs == sorted(chrfs, reverse=True)


def test_repeated_sentences_are_shown_once():
    found = samples.choose(["a", "a", "b", "c", "d"], ["x"] * 5, ["x", "x", "x", "y", "y"])
    shown = [sample.source for sample in (*found.best, *found.worst)]
    assert sorted(shown) == ["a", "b", "c", "d"]
    assert samples.choose(["a"], ["x"], [""]).worst == ()


def test_the_longest_of_equally_good_sentences_is_shown():
    references = ["no", "a long one", "yes", "so so"]
    assert samples.choose(references, references, references).best[0].reference == "a long one"


def test_a_long_text_is_cut():
    (sample,) = samples.choose(["ä" * 5000], ["x"], ["x"]).best
    assert len(sample.source) == samples.MAX_CHARACTERS and sample.source.endswith("ä…")
