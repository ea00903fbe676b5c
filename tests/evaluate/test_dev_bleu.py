"""Dev BLEU during training equals that of the saved checkpoint and leaves training unchanged."""
# SPDX-License-Identifier: Apache-2.0

import copy
import dataclasses
import json

import jax
import pytest
from sacrebleu import corpus_bleu

from gshard_mt.config.records import MeshConfig
from gshard_mt.decode import loading
from gshard_mt.decode.loading import load_translator
from gshard_mt.evaluate import dev_bleu, scores
from gshard_mt.evaluate.dev_bleu import DevTranslator
from gshard_mt.partitioning.mesh import build_mesh
from gshard_mt.train.loop import train
from gshard_mt.train.training import Options
from tests.making.runs import TIME, assert_same_bits, saved_arrays, tiny_config


def test_dev_bleu_is_that_of_the_checkpoint_and_does_not_change_training(
    config, prepared, tmp_path, monkeypatch
):
    scored = []  # BLEU is 0 after so few steps, so compare what is scored

    def score(english, references):
        scored.append((english, references))
        return scores.corpus_bleu(english, references)

    monkeypatch.setattr(dev_bleu, "corpus_bleu", score)
    values = {"num_steps": 4, "eval_every": 4, "save_every": 4, "optimizer": "adamw"}
    run_config = tiny_config(config, MeshConfig(2, 1, shard_parameters=True), **values)
    run_config.train.learning_rate = 0.1
    run_config.decode.max_source_length = 16  # one program for all
    mesh = build_mesh(2, 1, devices=jax.devices()[:2])
    train(run_config, prepared, tmp_path / "without", mesh)
    run_config = copy.deepcopy(run_config)
    run_config.train.bleu_every, run_config.train.bleu_sentences = 2, 3
    alone = build_mesh(1, 1, devices=jax.devices()[:1])  # parameters come from two devices
    options = Options(dev=DevTranslator(run_config, prepared, alone))
    train(run_config, prepared, tmp_path / "with", mesh, options)
    assert_same_bits(*(saved_arrays(tmp_path / name, 4) for name in ("with", "without")))

    text = (tmp_path / "with" / "metrics.jsonl").read_text(encoding="utf-8")
    lines = [line for line in map(json.loads, text.splitlines()) if "bleu" in line]
    assert [line["step"] for line in lines] == [2] * len(prepared.language_pairs) + [4] * len(
        prepared.language_pairs
    )
    greedy = dataclasses.replace(
        run_config, decode=dataclasses.replace(run_config.decode, beam_size=1)
    )
    monkeypatch.setattr(loading, "build_mesh", lambda *shape: alone)
    translator = load_translator(tmp_path / "with", greedy, "4")
    own = zip(
        lines[len(prepared.language_pairs) :], scored[len(prepared.language_pairs) :], strict=True
    )
    for line, (english, references) in own:
        sentences = prepared.references(line["pair"], "dev")
        number = len(sentences)
        sample = [sentences[i] for i in (number // 6, number // 2, 5 * number // 6)]
        assert english == translator.translate([source for source, _ in sample])
        assert references == [reference for _, reference in sample]
        wanted = corpus_bleu(english, [references], force=True).score
        assert line["bleu"] == pytest.approx(wanted, abs=1e-9)
    assert any("".join(english) for english, _ in scored)

    log = TIME.sub("", (tmp_path / "with" / "train.log").read_text()).splitlines()
    words = ("source ", "reference ", "hypothesis ")
    shown = [line[12:] for line in log if line.startswith(words)]
    assert len(shown) == 18 and shown[:9:3] == shown[9::3]  # at both evaluations the same
    sources, references, hypotheses = (shown[9 + k :: 3] for k in range(3))
    pairs, sources = zip(*(source.split(": ", 1) for source in sources), strict=True)
    assert sorted(pairs) == sorted(prepared.language_pairs)
    for pair, source, reference in zip(pairs, sources, references, strict=True):
        assert (source, reference) in prepared.references(pair, "dev")
    assert hypotheses == translator.translate(sources)
