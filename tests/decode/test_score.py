"""Scores of given translations are those of the training loss and of beam search."""
# SPDX-License-Identifier: Apache-2.0

import unicodedata

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gshard_mt.config.records import Config, MeshConfig
from gshard_mt.data.tokenizer import Tokenizer, eos_id, load_tokenizer
from gshard_mt.decode.beam import WORST
from gshard_mt.decode.score import PairScore, Scorer, score_tokens
from gshard_mt.decode.translate import Translator
from gshard_mt.model.moe import training_groups
from gshard_mt.partitioning.mesh import build_mesh
from gshard_mt.train.loss import pair_loss
from gshard_mt.train.step import predict
from tests.decode.test_beam import BUCKET, LENGTHS, LIMITS, Case, sources
from tests.making.made_up import english_sentences, translated
from tests.making.runs import tiny_config
from tests.model import tiny

NUM_EXPERTS = 4
MOST = 32  # subwords of a side
TEXTS = english_sentences()[:60:5]
PAIRS = [(translated(text, "de"), text) for text in TEXTS]
PAIRS += [("ein 日本 🙂", "a 日本 🙂 café"), ("", TEXTS[0]), (PAIRS[0][0], ""), ("", "")]


class Made:
    """A translator with random parameters, the same on every mesh, and its scorer."""

    def __init__(self, config: Config, directory, mesh):
        self.translator = Translator(config, load_tokenizer(directory), mesh)
        rng = np.random.default_rng(3)

        def draw(path, like: jax.ShapeDtypeStruct) -> jax.Array:
            noise = rng.normal(size=like.shape) / config.model.model_dim**0.5
            value = 1.0 + noise if path[-1].key == "scale_M" else noise
            return jax.device_put(value.astype(np.float32), like.sharding)

        params = self.translator.blueprint.params
        self.translator.params = jax.tree.map_with_path(draw, params)
        self.score = Scorer(self.translator).score

    def training_nll(self, pairs: list[tuple[str, str]]) -> np.ndarray:
        """The training loss of each pair, without label smoothing, of packed rows."""
        tokenizer, config = self.translator.tokenizer, self.translator.config
        sentences = [
            tiny.Sentence(np.array(source), np.array(target))
            for source, target in zip(
                tokenizer.encode_source([pair[0] for pair in pairs]),
                tokenizer.encode_target([pair[1] for pair in pairs]),
                strict=True,
            )
        ]
        rows = [sentences[k : k + 2] for k in range(0, len(sentences), 2)]
        batch = tiny.pack(rows, 2 * MOST)
        first_B1 = 2 * np.arange(len(rows))[:, None]
        batch = batch._replace(target_pair_BT=first_B1 + batch.target_segment_BT - 1)

        @jax.jit
        def run(params, batch):
            model = self.translator.blueprint.build(params)
            predictions, _ = predict(model, batch, training_groups(config.model), None, 1)
            return pair_loss(predictions, batch.target_pair_BT, len(pairs), jnp.float32)

        return np.asarray(run(self.translator.params, batch).nll_X)


def make(config, prepared, num_experts: int, mesh) -> Made:
    made = tiny_config(config, MeshConfig(), num_experts, num_steps=1)
    made.model.tie_softmax = False
    made.model.dropout_rate = 0.3
    made.model.moe.capacity_factor = float(max(num_experts, 1))  # no token is dropped in training
    made.decode.max_source_length, made.decode.batch_size = MOST, 16
    return Made(made, prepared.directory, mesh)


@pytest.fixture(scope="module")
def dense(config, prepared) -> Made:
    return make(config, prepared, 0, tiny.one_device())


@pytest.fixture(scope="module")
def moe(config, prepared) -> Made:
    return make(config, prepared, NUM_EXPERTS, tiny.one_device())


@pytest.fixture(params=["dense", "moe"])
def made(request) -> Made:
    return request.getfixturevalue(request.param)


def assert_close(found: list[PairScore], expected: list[PairScore]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.tokens == other.tokens and one.truncated == other.truncated
        np.testing.assert_allclose(one.token_scores, other.token_scores, rtol=1e-5, atol=1e-5)


def test_a_score_is_the_training_loss_of_the_sentence(made):
    found = made.score(PAIRS)
    expected = made.training_nll(PAIRS)
    np.testing.assert_allclose([-each.sum for each in found], expected, rtol=1e-5)
    assert not any(each.truncated for each in found)
    assert len({round(each.mean, 3) for each in found}) == len(PAIRS)


@pytest.mark.parametrize("config", [tiny.MOE, tiny.DENSE], ids=["moe", "dense"])
def test_a_score_is_that_of_beam_search_without_its_length_penalty(config):
    case = Case(config, seed=2)
    source_BL = sources(LENGTHS, BUCKET)
    found = case.search(4, source_BL, LIMITS)
    target_RT = np.zeros((len(LENGTHS) * 4, 16), np.int32)
    target_RT[:, : found.ids_BWT.shape[2]] = found.ids_BWT.reshape(len(target_RT), -1)
    run = jax.jit(lambda params, *ids: score_tokens(case.model.blueprint.build(params), *ids))
    score_RT = run(case.params, np.repeat(source_BL, 4, axis=0), target_RT)
    has_ended_R = (target_RT == eos_id).any(axis=1)
    ends_R = np.argmax(target_RT == eos_id, axis=1)
    num_R = np.where(has_ended_R, ends_R + 1, np.repeat(LIMITS, 4))
    is_token_RT = np.arange(16) < num_R[:, None]
    sums_R = np.where(is_token_RT, score_RT, 0.0).astype(np.float64).sum(axis=1)
    expected_R = found.score_BW.reshape(-1) * num_R**0.8
    # An untrained model may predict padding, which no text has.
    is_text_R = np.all(~is_token_RT | (target_RT != 0), axis=1)
    rows = np.flatnonzero(is_text_R & (found.score_BW.reshape(-1) > WORST))
    np.testing.assert_allclose(sums_R[rows], expected_R[rows], rtol=1e-5, atol=1e-5)
    assert len(rows) > 16 and {True, False} == {bool(has_ended_R[row]) for row in rows}


def test_a_score_is_that_of_the_translator_without_its_length_penalty(made, monkeypatch):
    translator, recorded = made.translator, []

    def record(self, ids) -> str:
        recorded.append(np.trim_zeros(ids, "b"))
        return str(len(recorded) - 1)  # in place of the text, which other subwords may spell, too

    monkeypatch.setattr(Tokenizer, "decode_target", record)
    lines = [source for source, _ in PAIRS[:6]]
    found = [(i, each) for i, best in enumerate(translator.list_best(lines, 4)) for each in best]
    encoded = translator.tokenizer.encode_source(lines)
    source_RL, target_RT = np.zeros((2, len(found), 64), np.int32)
    for row, (i, translation) in enumerate(found):
        target = recorded[int(translation.text)]
        source_RL[row, : len(encoded[i]) + 1] = [*encoded[i], eos_id]
        target_RT[row, : len(target)] = target
    run = jax.jit(lambda params, *ids: score_tokens(translator.blueprint.build(params), *ids))
    score_RT = np.where(target_RT != 0, run(translator.params, source_RL, target_RT), 0.0)
    num_R = np.count_nonzero(target_RT, axis=1)
    found_R = score_RT.astype(np.float64).sum(axis=1)
    found_R /= num_R**translator.config.decode.length_penalty
    own_R = [translation.score for _, translation in found]
    np.testing.assert_allclose(found_R, own_R, rtol=1e-5)
    means_R = [translation.mean for _, translation in found]
    np.testing.assert_allclose(score_RT.sum(axis=1) / num_R, means_R, rtol=1e-5)
    assert len(found) == 4 * len(lines)


def test_a_score_does_not_depend_on_the_other_pairs(made):
    expected = made.score(PAIRS)
    assert_close(made.score(PAIRS[::-1])[::-1], expected)
    assert_close([made.score([pair])[0] for pair in PAIRS[:3]], expected[:3])
    assert_close(made.score(PAIRS[:2] + PAIRS[:1] * 40)[2:], expected[:1] * 40)


def test_a_score_does_not_depend_on_padding(moe):
    blueprint = moe.translator.blueprint
    run = jax.jit(lambda *arrays: score_tokens(blueprint.build(arrays[0]), *arrays[1:]))
    source_BL, target_BT = sources([7, 3, 12, 1], 16), sources([5, 14, 1, 9], 16, seed=9)
    expected_BT = run(moe.translator.params, source_BL, target_BT)
    wide = [np.pad(ids, ((0, 4), (0, 32))) for ids in (source_BL, target_BT)]
    found_BT = run(moe.translator.params, *wide)[:4, :16]
    is_token_BT = target_BT != 0
    np.testing.assert_allclose(
        found_BT[is_token_BT], expected_BT[is_token_BT], rtol=1e-5, atol=1e-5
    )


def test_eight_devices_score_as_one_does(config, prepared, moe):
    eight = make(config, prepared, NUM_EXPERTS, build_mesh(2, 4))
    assert_close(eight.score(PAIRS), moe.score(PAIRS))


def test_tokens_are_the_subwords_of_the_normalized_target_and_its_end(dense):
    decomposed = unicodedata.normalize("NFD", "café")
    pairs = [(f"ein  {decomposed}", f"a\u200b {decomposed}\t日🙂"), ("ein café", "a café 日🙂")]
    found, normalized = dense.score(pairs)
    assert found == normalized
    *pieces, end = found.tokens
    assert end == "</s>" and len(found.token_scores) == len(pieces) + 1
    model = dense.translator.tokenizer.target
    assert model.decode(pieces) == "a café 日🙂"
    assert "<0x99>" in pieces  # a byte of the last character


def test_of_an_empty_target_the_end_is_scored(dense):
    texts = ["", " \u200b\t"]
    first, second = dense.score([(PAIRS[0][0], text) for text in texts])
    assert first.tokens == ["</s>"] and first == second and first.sum == first.mean < 0
    from_nothing, same = dense.score([(text, PAIRS[0][1]) for text in texts])
    assert from_nothing == same and len(same.tokens) > 1
    assert from_nothing != dense.score(PAIRS[:1])[0]
    assert dense.score([]) == []


def test_what_is_too_long_is_cut_and_says_so(dense):
    source, target = PAIRS[0]
    long = " ".join([TEXTS[1]] * 9)
    by_source, by_target, both = dense.score([(long, target), (source, long), (long, long)])
    assert by_source.truncated == ("source",)
    assert by_target.truncated == ("target",) and both.truncated == ("source", "target")
    tokenizer = dense.translator.tokenizer
    assert by_source.tokens == dense.score([(source, target)])[0].tokens
    start = tokenizer.encode_target([long])[0][:MOST]
    pieces = [tokenizer.target.id_to_piece(id) for id in start]
    assert by_target.tokens == both.tokens == pieces  # without an end
    # A longer end of the target changes nothing, nor does one of the source.
    longer = f"{long} {TEXTS[2]}"
    assert dense.score([(source, longer)])[0] == by_target
    assert dense.score([(longer, target)])[0] == by_source


def test_progress_is_told(dense):
    told = []
    dense.score(PAIRS, told.append)
    assert sum(told) == len(PAIRS)
