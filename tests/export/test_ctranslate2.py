"""CTranslate2 opens what --format ctranslate2 writes, and computes what this project does."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import functools
import pathlib
from typing import NamedTuple

import ctranslate2
import numpy as np
import pytest
import sentencepiece

from gshard_mt.data.tokenizer import eos_id
from gshard_mt.export import ctranslate2_model
from gshard_mt.export.folder import export
from tests.export.made_run import Made, make_run
from tests.model.tiny import Sentence, pack

MODELS = {
    "two vocabularies": {"tie_softmax": False},
    "heads wider than the model, one vocabulary": {
        "tie_embeddings": True,
        "num_heads": 3,
        "head_dim": 12,
        "num_layers": 6,
    },
}


class Exported(NamedTuple):
    """A run, and the folder that was made of it."""

    made: Made
    folder: pathlib.Path

    @property
    def pieces(self) -> tuple[list[str], list[str]]:
        """The subwords of both sides, as SentencePiece itself reads the folder's models."""
        paths = sorted(self.folder.glob("*.model"))  # source and target, or joint
        models = [sentencepiece.SentencePieceProcessor(model_file=str(path)) for path in paths]
        source, target = (
            [model.id_to_piece(id) for id in range(model.get_piece_size())]
            for model in (models[0], models[-1])
        )
        return source, target

    def scores(self, sentences: list[Sentence], folder: pathlib.Path) -> list[np.ndarray]:
        """What CTranslate2 says of each subword of given translations, and of their end."""
        source, target = self.pieces
        translator = ctranslate2.Translator(str(folder), compute_type="default", intra_threads=1)
        found = translator.score_batch(
            [[source[id] for id in sentence.source] for sentence in sentences],
            [[target[id] for id in sentence.target] for sentence in sentences],
        )
        return [np.array(result.log_probs) for result in found]


@pytest.fixture(scope="module", params=MODELS)
def exported(request, tmp_path_factory, config, prepared) -> Exported:
    folder, data = tmp_path_factory.mktemp("dense"), dataclasses.replace(config)
    made = make_run(folder, data, prepared, {"num_experts": 0}, **MODELS[request.param])
    export(made.workdir, folder / "out", write=ctranslate2_model.write)
    return Exported(made, folder / "out")


def draw_sentences(exported: Exported) -> list[Sentence]:
    rng = np.random.default_rng(0)
    sizes = [len(pieces) for pieces in exported.pieces]
    return [
        Sentence(*(rng.integers(4, size, length) for size, length in zip(sizes, pair, strict=True)))
        for pair in ((5, 7), (1, 3), (11, 2))
    ]


def log_probabilities(made: Made, sentences: list[Sentence]) -> np.ndarray:
    logits_BTV = np.float64(made.logits(pack([[sentence] for sentence in sentences], 16)))
    return logits_BTV - np.log(np.sum(np.exp(logits_BTV), axis=-1, keepdims=True))


def test_the_scores_of_given_translations_are_equal(exported):
    sentences = draw_sentences(exported)
    expected_BTV = log_probabilities(exported.made, sentences)
    found = exported.scores(sentences, exported.folder)
    for sentence, expected_TV, scores_T in zip(sentences, expected_BTV, found, strict=True):
        ids = [*sentence.target, eos_id]
        expected_T = expected_TV[np.arange(len(ids)), ids]
        assert np.ptp(expected_T) > 0.1
        np.testing.assert_allclose(scores_T, expected_T, rtol=0, atol=1e-4)


def test_greedy_translations_are_equal(exported):
    sentences, (source, target) = draw_sentences(exported), exported.pieces
    translator = ctranslate2.Translator(str(exported.folder), intra_threads=1)
    found = translator.translate_batch(
        [[source[id] for id in sentence.source] for sentence in sentences],
        beam_size=1,
        max_decoding_length=6,
    )
    for sentence, result in zip(sentences, found, strict=True):
        ids = [target.index(piece) for piece in result.hypotheses[0]]
        scores_BTV = log_probabilities(exported.made, [Sentence(sentence.source, np.array(ids))])
        best = scores_BTV[0].argmax(axis=-1)[: len(ids) + 1].tolist()
        assert best[: len(ids)] == ids and (len(ids) == 6 or best[-1] == eos_id)


ERRORS = {"float16": 0.01, "int16": 0.02, "int8": 0.1}


@pytest.mark.parametrize("quantization", ERRORS)
def test_quantized_weights_score_nearly_the_same(exported, tmp_path, quantization):
    # On CPUs that don't multiply int16, such as AMD's, CTranslate2 rounds to int8.
    has_int16 = "int16" in ctranslate2.get_supported_compute_types("cpu")
    error = ERRORS["int8" if quantization == "int16" and not has_int16 else quantization]
    write = functools.partial(ctranslate2_model.write, quantization=quantization)
    export(exported.made.workdir, tmp_path / "out", write=write)
    sentences = draw_sentences(exported)
    whole = np.concatenate(exported.scores(sentences, exported.folder))
    found = np.concatenate(exported.scores(sentences, tmp_path / "out"))
    assert 0 < np.abs(found - whole).max() < error
