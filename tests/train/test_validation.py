"""Dev metrics: their means over language pairs, and early stopping."""
# SPDX-License-Identifier: Apache-2.0

import pytest

from gshard_mt.train.validation import EarlyStopping, mean_metrics


@pytest.mark.parametrize(("best_by", "sign"), [("nll", 1), ("bleu", -1)])
def test_early_stopping_counts_the_evaluations_since_the_best(best_by, sign):
    stopping, counts = EarlyStopping(best_by), []
    for value in (5, 4, 4, 6, None, 3, 3.5):
        metrics = {"other": 0.0} if value is None else {best_by: sign * value}
        stopping = stopping.after(metrics)
        counts.append(stopping.since)
    assert counts == [0, 0, 1, 2, 2, 0, 1]
    assert stopping.best == sign * 3
    assert EarlyStopping(best_by).resumed(list(stopping)) == stopping
    other = {"nll": "bleu", "bleu": "nll"}[best_by]
    assert (
        EarlyStopping(other).resumed(list(stopping))
        == EarlyStopping(other).resumed([])
        == EarlyStopping(other)
    )


def test_early_stopping_is_over_after_that_many_evaluations_and_never_for_zero():
    assert [EarlyStopping("nll", 1.0, since).is_over(2) for since in (0, 1, 2, 3)] == [
        False,
        False,
        True,
        True,
    ]
    assert not EarlyStopping("nll", 1.0, 99).is_over(0)


def test_means_are_over_the_language_pairs_that_have_the_metric():
    lines = [
        {"pair": "de-en", "nll": 1.0},
        {"pair": "fr-en", "nll": 3.0},
        {"pair": "de-en", "bleu": 10.0},
    ]
    assert mean_metrics(lines) == {"nll": 2.0, "bleu": 10.0}
    assert mean_metrics([]) == {}
