"""Dev figures: their means over languages, and how long a run waits for a better one."""
# SPDX-License-Identifier: Apache-2.0

import pytest

from gshard_mt.train.validation import Patience, mean_figures


@pytest.mark.parametrize(("best_by", "sign"), [("nll", 1), ("bleu", -1)])
def test_patience_counts_what_came_after_the_best(best_by, sign):
    patience, counts = Patience(best_by), []
    for figure in (5, 4, 4, 6, None, 3, 3.5):
        figures = {"other": 0.0} if figure is None else {best_by: sign * figure}
        patience = patience.after(figures)
        counts.append(patience.since)
    assert counts == [0, 0, 1, 2, 2, 0, 1]
    assert patience.best == sign * 3
    assert Patience(best_by).resumed(list(patience)) == patience
    other = {"nll": "bleu", "bleu": "nll"}[best_by]
    assert Patience(other).resumed(list(patience)) == Patience(other).resumed([]) == Patience(other)


def test_patience_is_over_after_so_many_and_never_for_none():
    assert [Patience("nll", 1.0, since).is_over(2) for since in (0, 1, 2, 3)] == [
        False,
        False,
        True,
        True,
    ]
    assert not Patience("nll", 1.0, 99).is_over(0)


def test_means_are_over_the_languages_that_have_the_figure():
    lines = [
        {"pair": "de-en", "nll": 1.0},
        {"pair": "fr-en", "nll": 3.0},
        {"pair": "de-en", "bleu": 10.0},
    ]
    assert mean_figures(lines) == {"nll": 2.0, "bleu": 10.0}
    assert mean_figures([]) == {}
