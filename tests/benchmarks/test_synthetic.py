"""Synthetic pairs: the same for the same seed, aligned, with the planted share of copies."""
# SPDX-License-Identifier: Apache-2.0

import itertools
from collections import Counter

import pytest

from benchmarks.synthetic import (
    DUPLICATE_RATE,
    NEAR_DUPLICATE_RATE,
    Phrases,
    generate_lines,
    language_sizes,
    write_corpus,
)
from gshard_mt.data.cleaning.fold import fold_all
from gshard_mt.data.corpora.recipe import load_recipe

_WORDS = list(itertools.product(("ba", "be", "bo"), ("ka", "ke", "ko"), ("ma", "me"), ("ta", "to")))
_PHRASES = Phrases(
    tuple("".join(parts) + " x" for parts in _WORDS),
    tuple("".join(reversed(parts)) + " y z" for parts in _WORDS),
)


def _pairs(num_pairs: int, seed: int = 0, words: float = 15) -> list[list[str]]:
    text = "".join(generate_lines(_PHRASES, num_pairs, words, seed))
    return [line.split("\t") for line in text.splitlines()]


def test_the_seed_decides_the_text():
    assert _pairs(500) == _pairs(500)
    assert _pairs(500) != _pairs(500, seed=1)
    assert len(_pairs(500)) == 500


def test_both_sides_are_the_same_phrases_in_the_same_order():
    english_of = dict(zip(_PHRASES.source, _PHRASES.english, strict=True))
    for source, english in _pairs(200):
        words = source.removesuffix("!").split()
        phrases = [" ".join(pair) for pair in itertools.pairwise(words) if pair[1] == "x"]
        aligned = " ".join(english_of[phrase] for phrase in phrases)
        assert english.removesuffix("!").lower().startswith(aligned)


@pytest.mark.parametrize("words", [9, 15, 30])
def test_sentences_have_the_asked_mean_length(words):
    lengths = [len(english.split()) for _, english in _pairs(20_000, words=words)]
    assert sum(lengths) / len(lengths) == pytest.approx(words, rel=0.1)


def test_copies_are_planted_at_their_rates():
    # 24 words a pair: with this many phrases no pair comes twice by chance.
    pairs = _pairs(20_000, words=24)
    exact = len(pairs) - len({tuple(pair) for pair in pairs})
    folded = Counter(tuple(fold_all(list(pair))) for pair in pairs)
    near = len(pairs) - len(folded) - exact
    assert exact / len(pairs) == pytest.approx(DUPLICATE_RATE, rel=0.2)
    assert near / len(pairs) == pytest.approx(NEAR_DUPLICATE_RATE, rel=0.2)


@pytest.mark.parametrize("num_pairs", [7, 4_000, 200_000, 20_000_000])
def test_sizes_add_up_and_fall_with_rank(num_pairs):
    sizes = language_sizes(num_pairs, 40)
    assert sum(sizes) == num_pairs and sizes == sorted(sizes, reverse=True)
    assert min(sizes) >= min(100, num_pairs // 40)


def test_a_corpus_is_a_recipe_and_a_file_of_each_language(tmp_path):
    recipe = load_recipe(write_corpus(tmp_path, {"de": _PHRASES, "sr_Latn": _PHRASES}, [30, 20], 9))
    assert [entry.languages for entry in recipe.entries] == [("de",), ("sr_Latn",)]
    files = [entry.path.read_text(encoding="utf-8") for entry in recipe.entries]
    assert [file.count("\n") for file in files] == [30, 20]
