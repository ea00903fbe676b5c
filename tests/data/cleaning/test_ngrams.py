"""A model of character n-grams scores a line by the other lines, the same in any company."""
# SPDX-License-Identifier: Apache-2.0

import numpy as np

from gshard_mt.data.cleaning.ngrams import CharacterModel
from tests.making.phrases import NUM_SENTENCES, sentence

NUMBERS = range(0, NUM_SENTENCES, NUM_SENTENCES // 300)
GERMAN = [sentence(number, "de") for number in NUMBERS]
FRENCH = [sentence(number, "fr") for number in NUMBERS]
ODD = ["", "İstanbul'da", "one\ntwo", "犬が庭にいます", "x", "ĞÜ" * 500]


def test_the_score_of_a_line_does_not_depend_on_the_others():
    model, lines = CharacterModel(GERMAN), [*GERMAN[:5], *ODD, *FRENCH[:5]]
    together = model.score(lines)
    alone = [model.score([line]) for line in lines]
    assert together.total.tolist() == [float(each.total[0]) for each in alone]
    assert together.length.tolist() == [int(each.length[0]) for each in alone]
    assert (together.length > 0).all() and np.isfinite(together.total).all()


def test_a_line_is_likelier_among_its_own():
    german, french = CharacterModel(GERMAN), CharacterModel(FRENCH)
    assert (german.score(GERMAN).total > french.score(GERMAN).total).all()
    assert (german.score(FRENCH).total < french.score(FRENCH).total).all()


def test_a_line_is_not_scored_by_counts_of_itself():
    odd = "zyzzyva qoph xu"
    with_it, without = CharacterModel([*GERMAN, odd]), CharacterModel([*GERMAN, GERMAN[0]])
    assert abs(with_it.score([odd]).total[0] - without.score([odd]).total[0]) < 1.0
    assert with_it.score([odd + "!"]).total[0] > without.score([odd + "!"]).total[0] + 3 or (
        with_it.score([odd]).total[0] < -40
    )


def test_a_model_of_nothing_scores():
    assert np.isfinite(CharacterModel([]).score(["a", ""]).total).all()
    assert not len(CharacterModel(GERMAN).score([]).total)
