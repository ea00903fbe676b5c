"""A translator reads texts as sentences, and each line as it is asked to."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import math

import jax
import pytest

from gshard_mt.decode import programs
from gshard_mt.decode.loading import load_translator
from gshard_mt.decode.translate import Sampling, Translator
from gshard_mt.decode.translation import LineOptions
from gshard_mt.run.directory import read_run
from tests.export.made_run import Made, make_run
from tests.making.made_up import english_sentences, translated

SENTENCES = [f"{translated(text, 'de').capitalize()}." for text in english_sentences()[:12]]


@pytest.fixture(scope="module")
def made(tmp_path_factory, config, prepared) -> Made:
    return make_run(tmp_path_factory.mktemp("made"), config, prepared, {"num_experts": 0})


def load(made: Made, **decode) -> Translator:
    config = read_run(made.workdir).config
    config = dataclasses.replace(config, decode=dataclasses.replace(config.decode, **decode))
    return load_translator(made.workdir, config, "7")


@pytest.fixture(scope="module")
def translator(made) -> Translator:
    return load(made, beam_size=2, split="always", no_stutter=4)


def test_a_paragraph_is_the_translations_of_its_sentences(translator):
    alone = translator.list_best(SENTENCES, 2)
    counted = []
    paragraphs = ["  ".join(SENTENCES[k : k + 4]) for k in range(0, 12, 4)]
    lines = [paragraphs[0], "", *paragraphs[1:]]
    found = translator.list_best(lines, 2, counted.append)
    assert sum(counted) == 4
    assert [best.text for best in found[1]] == [""]
    for best, start in zip([found[0], *found[2:]], range(0, 12, 4), strict=True):
        parts = alone[start : start + 4]
        for k, joined in enumerate(best):
            own = [each[min(k, len(each) - 1)] for each in parts]
            assert joined.text == " ".join(each.text for each in own if each.text)
            assert joined.score == pytest.approx(sum(each.score for each in own) / 4, abs=1e-5)
            assert joined.mean == pytest.approx(min(each.mean for each in own), abs=1e-5)
            assert not joined.was_too_long


def test_a_later_start_traces_nothing_and_translates_the_same(made, tmp_path, monkeypatch):
    before = jax.config.jax_compilation_cache_dir  # type: ignore
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    try:
        lines = [*SENTENCES, " ".join(SENTENCES[:3])]
        first = load(made, beam_size=2).list_best(lines, 2)
        for name in ("encode_source", "beam_search"):
            monkeypatch.setattr(programs, name, None)
        assert load(made, beam_size=2).list_best(lines, 2) == first
        with pytest.raises(TypeError):
            load(made, beam_size=3).list_best(lines, 2)
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


def test_a_sentence_longer_than_the_model_reads_is_in_pieces(made):
    long = " ".join(" ".join(SENTENCES).replace(".", ",").split())
    whole = load(made, max_source_length=16).find_best([long, "der Hund."])
    assert [each.is_in_pieces for each in whole] == [True, False]
    cut = load(made, max_source_length=16, split="never").find_best([long])[0]
    assert cut.is_truncated and not whole[0].is_truncated
    assert len(whole[0].text) > 2 * len(cut.text)


def test_each_line_is_translated_as_it_asks(made, translator):
    options = [
        LineOptions(prefix="the dog"),
        LineOptions(beam_size=1),
        LineOptions(length_penalty=0.0),
        LineOptions(),
        LineOptions(prefix="a cat", beam_size=1, length_penalty=0.5),
    ]
    lines = [SENTENCES[0]] * 5
    together = translator.list_best(lines, 2, options=options)
    for each, best in zip(options, together, strict=True):
        alone = translator.list_best([SENTENCES[0]], 2, options=[each])[0]
        assert [(one.text, pytest.approx(one.score, abs=1e-5)) for one in alone] == [
            (one.text, one.score) for one in best
        ]
        assert [one.mean for one in best] == pytest.approx([one.mean for one in alone], abs=1e-5)
        assert best[0].text.startswith(each.prefix)
        assert len(best) == (each.beam_size or 2)
    greedy = load(made, beam_size=1, no_stutter=4).find_best([SENTENCES[0]])[0]
    assert together[1][0].text == greedy.text
    assert together[2][0].score < together[2][0].mean < 0  # it is the sum of several
    assert together[1][0].score == pytest.approx(greedy.score, abs=1e-5)


def test_only_the_first_sentence_begins_as_asked(translator):
    paragraph = " ".join(SENTENCES[:2])
    [[best]] = translator.list_best([paragraph], 1, options=[LineOptions(prefix="the dog")])
    first, second = translator.list_best(
        SENTENCES[:2], 1, options=[LineOptions(prefix="the dog"), LineOptions()]
    )
    assert best.text == f"{first[0].text} {second[0].text}"


def test_samples_of_a_line_do_not_depend_on_the_others(translator):
    paragraph = " ".join(SENTENCES[:3])
    found = translator.list_best(["x", paragraph, "y"], 3, sampling=Sampling(1.0, 5))
    again = translator.list_best([paragraph], 3, sampling=Sampling(1.0, 5, first_line=1))
    assert [each.text for each in found[1]] == [each.text for each in again[0]]
    assert len({each.text for each in again[0]}) > 1
    assert all(math.isfinite(each.score) for each in again[0])
    samples = translator.list_best(["x"], 3, sampling=Sampling(1.0, 5))[0]
    counts = [each.score / each.mean for each in samples]  # of subwords
    assert counts == pytest.approx([round(count) for count in counts], rel=1e-5)
