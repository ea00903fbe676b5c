"""COMET's program gets every sentence as one line, and what goes wrong with it is said in one."""
# SPDX-License-Identifier: Apache-2.0

import hashlib
import pathlib

import pytest

from gshard_mt.errors import ConfigError
from gshard_mt.evaluate import comet
from gshard_mt.evaluate.scores import extra_metrics
from tests.evaluate.made_comet import write_program


@pytest.fixture
def program(tmp_path, monkeypatch) -> pathlib.Path:
    program = write_program(tmp_path / "env")
    monkeypatch.setenv("COMET_SCORE", str(program))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return program


def test_every_sentence_has_its_score_whatever_is_in_it(program, tmp_path):
    lines = [
        "a\nb",
        "",
        "c\r\nd\re",
        "\u2028f\x85\x0b\x0cg",
        "h\ti\ud800",
        "",
        "$(touch x)`'\"",
        "",
    ]
    found = comet.open_comet().score(lines, ["-r"] * len(lines), [""] * len(lines))
    # The program strips each line.
    read = ["a b", "", "c d e", "f\x85\x0b\x0cg", "h i\ufffd", "", "$(touch x)`'\"", ""]
    assert found == [(len(line) + 2) / 1000 for line in read]


def test_the_metric_is_the_mean_of_a_language_pair_and_its_signature_names_model_and_version(
    program,
):
    texts = {"de-en": ["x" * 10, "x" * 30], "fr-en": ["x" * 70]}
    nothing = {pair: [""] * len(lines) for pair, lines in texts.items()}
    (metric,) = extra_metrics(["comet"]).values()
    assert metric.measure(nothing, texts, nothing) == pytest.approx({"de-en": 2, "fr-en": 7})
    assert metric.signature == "model:Unbabel/wmt22-comet-da|unbabel-comet:2.2.7"
    assert extra_metrics(["comet:me/mine"])["comet"].signature.startswith("model:me/mine|")


def test_a_program_on_path_by_a_link_and_a_model_by_its_file(program, tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "comet-score").symlink_to(program)
    monkeypatch.delenv("COMET_SCORE")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "model.ckpt").write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()[:16]
    found = comet.open_comet(str(tmp_path / "model.ckpt"))
    assert found.signature == f"model:model.ckpt|sha256:{digest}|unbabel-comet:2.2.7"


def test_a_missing_program_is_refused_with_the_commands_that_install_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("COMET_SCORE", raising=False)
    with pytest.raises(ConfigError, match="found no program comet-score; install") as refused:
        comet.open_comet()
    page = pathlib.Path(__file__).parents[2] / "docs" / "evaluation.md"
    commands = str(refused.value).split("of its own: ")[1].split(" && ")
    written = {line.strip() for line in page.read_text(encoding="utf-8").splitlines()}
    assert len(commands) == 3 and set(commands) <= written


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            "unknown",
            r"failed with status 1 \(KeyError: .Model 'unknown'\[2J not supported by COMET",
        ),
        ("few", "gave 0 scores, accepted: 1, one for each sentence"),
        ("nan", "gave 0 scores, accepted: 1, one for each sentence"),
        ("silent", "left no scores that can be read"),
        ("missing/model.ckpt", "comet:missing/model.ckpt can't be read .No such file"),
    ],
)
def test_a_model_that_can_not_be_used_is_refused_before_anything_is_translated(
    program, model, message
):
    with pytest.raises(ConfigError, match=message) as refused:
        extra_metrics([f"comet:{model}"])
    assert len(str(refused.value).splitlines()) == 1 and str(refused.value).isprintable()


def test_a_program_that_can_not_be_run_is_refused(program):
    program.write_bytes(b"\x7fELF")
    with pytest.raises(ConfigError, match="comet-score can't be run"):
        comet.open_comet()


def test_a_metric_is_given_once_and_only_comet_has_a_model(program):
    with pytest.raises(ConfigError, match="found comet twice"):
        extra_metrics(["comet", "comet:me/mine"])
    with pytest.raises(ConfigError, match="found 'ter:x'; did you mean ter"):
        extra_metrics(["ter:x"])
