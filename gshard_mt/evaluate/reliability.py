"""Reliability: confidences fitted to dev translations, and what they are worth on others."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from gshard_mt.config.records import DecodeConfig
from gshard_mt.decode.translation import Translation
from gshard_mt.evaluate.scores import Lines, sentence_chrf
from gshard_mt.evaluate.table import BUCKETS, buckets
from gshard_mt.report.tables import Table
from gshard_mt.run.calibration import (
    MIN_CHRF,
    ConfidenceCurve,
    decode_keys,
    find_calibration,
    path_of,
    write_calibration,
)

NUM_BINS = 10

Best = Mapping[str, Sequence[Translation]]  # by language pair


class Judged(NamedTuple):
    """Translations with references, I of them: of all language pairs, one after another."""

    pair_I: np.ndarray  # language pairs
    mean_I: np.ndarray  # `Translation.mean`
    chrf_I: np.ndarray  # sentence chrF

    @property
    def is_good(self) -> np.ndarray:
        """Which of them are good, [I]."""
        return self.chrf_I >= MIN_CHRF


class Reliability(NamedTuple):
    """What confidences say, and what is the case."""

    table: Table
    error: float  # expected calibration error: the mean gap of the bins, weighted by sentences
    correlation: float  # Pearson's, of confidence and sentence chrF

    @property
    def notes(self) -> tuple[str, str]:
        return (
            f"Confidence is the share of translations with a sentence chrF of at least {MIN_CHRF} "
            "that the calibration expects; found is the share that has it.",
            f"Expected calibration error {self.error:.3f}, correlation of confidence and sentence "
            f"chrF {self.correlation:.2f}.",
        )

    def to_text(self) -> str:
        """Returns the table and the notes for a terminal."""
        return "\n".join([*self.table.to_text(), *self.notes])

    def to_markdown(self) -> str:
        """Returns the content of `reliability.md`."""
        return "\n".join(["# Reliability", "", *self.table.to_markdown(), "", *self.notes]) + "\n"


def judge(best: Best, references: Lines) -> Judged:
    """Returns the translations with their sentence chrF."""
    chrfs = [sentence_chrf([each.text for each in best[pair]], references[pair]) for pair in best]
    return Judged(
        np.repeat(list(best), list(map(len, best.values()))),
        np.array([each.mean for own in best.values() for each in own]),
        np.concatenate(chrfs),
    )


def fit(judged: Judged, config: DecodeConfig) -> ConfidenceCurve:
    """Fits the logistic curve that makes the translations' being good or not most likely.

    Good ones count as slightly less and bad ones as slightly more, as in Platt 1999, so that
    nothing is certain. Confidence never falls with the log-probability.
    """
    from scipy.optimize import minimize  # which takes a quarter of a second

    mean_I, is_good_I = judged.mean_I, judged.is_good
    num_good, num_bad = np.sum(is_good_I), np.sum(~is_good_I)
    target_I = np.where(is_good_I, (num_good + 1) / (num_good + 2), 1 / (num_bad + 2))

    def loss(curve: np.ndarray) -> tuple[float, np.ndarray]:
        logit_I = curve[0] * mean_I + curve[1]
        slope_I = 0.5 * (1 + np.tanh(0.5 * logit_I)) - target_I
        value = np.sum(np.logaddexp(0.0, logit_I) - target_I * logit_I)
        return value, np.array([slope_I @ mean_I, np.sum(slope_I)])

    found = minimize(loss, [1.0, 0.0], jac=True, method="L-BFGS-B", bounds=[(0, None), (None,) * 2])
    slope, intercept = map(float, found.x)
    return ConfidenceCurve(slope, intercept, len(mean_I), decode_keys(config))


def cross_fit(judged: Judged, config: DecodeConfig) -> np.ndarray:
    """Returns confidences of which none comes from a curve that its own sentence was fitted to.

    Sentences of odd number get the curve of the others, and these that of the odd ones.
    """
    is_odd_I = np.arange(len(judged.mean_I)) % 2 == 1
    confidence_I = np.zeros(len(judged.mean_I))
    for is_fitted_I in (is_odd_I, ~is_odd_I):
        curve = fit(Judged(*(each_I[is_fitted_I] for each_I in judged)), config)
        confidence_I[~is_fitted_I] = confide(curve, judged)[~is_fitted_I]
    return confidence_I


def confide(calibration: ConfidenceCurve, judged: Judged) -> np.ndarray:
    """Returns the confidence of every translation."""
    return np.array([calibration.confidence(mean) for mean in judged.mean_I])


def measure(
    judged: Judged, confidence_I: np.ndarray, train_pairs: Mapping[str, int]
) -> Reliability:
    """Compares confidences with what is the case, by confidence and by bucket of languages."""
    bin_I = np.minimum((confidence_I * NUM_BINS).astype(int), NUM_BINS - 1)
    rows, error = [], 0.0
    for number in np.unique(bin_I):
        name = f"{number / NUM_BINS:.0%} to {(number + 1) / NUM_BINS:.0%}"
        is_own_I = bin_I == number
        gap = np.mean(confidence_I[is_own_I]) - np.mean(judged.is_good[is_own_I])
        error += abs(gap) * np.mean(is_own_I)
        rows.append(_row(name, is_own_I, judged, confidence_I))
    bucket = {**dict.fromkeys(judged.pair_I, "low"), **buckets(train_pairs)}
    bucket_I = np.array([bucket[pair] for pair in judged.pair_I])
    groups = {name: bucket_I == name for name in BUCKETS if name in bucket_I}
    footer = [_row("all", np.full(len(bin_I), True), judged, confidence_I)]
    if len(groups) > 1:
        footer += [_row(name, is_own, judged, confidence_I) for name, is_own in groups.items()]
    both = confidence_I, judged.chrf_I
    varies = all(np.ptp(each_I) > 0 for each_I in both)
    correlation = float(np.corrcoef(*both)[0, 1]) if varies else 0.0
    head = ["confidence", "sentences", "expected", "found", "chrF"]
    return Reliability(Table(head, rows, footer=footer), float(error), correlation)


def _row(
    name: str, is_own_I: np.ndarray, judged: Judged, confidence_I: np.ndarray
) -> tuple[str, ...]:
    expected, found = np.mean(confidence_I[is_own_I]), np.mean(judged.is_good[is_own_I])
    chrf = np.mean(judged.chrf_I[is_own_I])
    return name, f"{np.sum(is_own_I):,}", f"{expected:.1%}", f"{found:.1%}", f"{chrf:.1f}"


def rate(
    folder: pathlib.Path, checkpoint: str, config: DecodeConfig, test_set: str, judged: Judged
) -> np.ndarray | None:
    """Returns the confidence of every translation, or None if there is no calibration.

    Those of the dev split are what it is fitted to, and are cross-fitted; it is then written.
    """
    if test_set == "dev":
        write_calibration(fit(judged, config), path_of(folder, checkpoint))
        return cross_fit(judged, config)
    found = find_calibration(folder, checkpoint, config)
    return confide(found, judged) if found else None
