"""Reliability: a curve that is known is found again, and a wrong one is told by its error."""
# SPDX-License-Identifier: Apache-2.0

import numpy as np
import pytest

from gshard_mt.config.records import DecodeConfig
from gshard_mt.decode.translation import Translation
from gshard_mt.evaluate import reliability
from gshard_mt.evaluate.reliability import Judged
from gshard_mt.run.calibration import ConfidenceCurve, decode_keys, find_calibration, path_of

TRAIN_PAIRS = {"de-en": 100, "fr-en": 50, "lb-en": 10}
CURVE = ConfidenceCurve(3.0, 2.0, 0, {})


def draw(number: int) -> Judged:
    """Translations that are good as often as CURVE says."""
    random = np.random.default_rng(5)
    mean_I = -random.exponential(0.7, number)
    is_good_I = random.random(number) < [CURVE.confidence(mean) for mean in mean_I]
    return Judged(np.array(list(TRAIN_PAIRS))[np.arange(number) % 3], mean_I, 100.0 * is_good_I)


def test_translations_are_judged_by_their_own_reference():
    best = {"de-en": [Translation("a b c", -1.0, mean=-0.5)], "fr-en": [Translation("x", 0.0)]}
    judged = reliability.judge(best, {"de-en": ["a b c"], "fr-en": ["y"]})
    assert judged.pair_I.tolist() == ["de-en", "fr-en"] and judged.mean_I.tolist() == [-0.5, 0.0]
    assert judged.chrf_I.tolist() == [100.0, 0.0] and judged.is_good.tolist() == [True, False]


def test_the_curve_that_made_them_is_found():
    found = reliability.fit(draw(20_000), DecodeConfig())
    assert (found.slope, found.intercept) == pytest.approx((3.0, 2.0), rel=0.05)
    assert found.sentences == 20_000 and found.decode == decode_keys(DecodeConfig())


def test_confidence_never_falls_with_the_probability():
    judged = draw(200)
    turned = judged._replace(mean_I=-judged.mean_I)
    assert reliability.fit(turned, DecodeConfig()).slope == 0


@pytest.mark.parametrize("chrf", [0.0, 100.0])
@pytest.mark.parametrize("number", [1, 2, 50])
def test_nothing_is_certain_where_all_are_alike(number, chrf):
    judged = draw(number)._replace(chrf_I=np.full(number, chrf))
    confidence_I = reliability.cross_fit(judged, DecodeConfig())
    assert np.all((confidence_I > 0) & (confidence_I < 1))
    assert reliability.measure(judged, confidence_I, TRAIN_PAIRS).correlation == 0


def test_no_sentence_has_a_say_in_its_own_confidence():
    judged = draw(60)
    before_I = reliability.cross_fit(judged, DecodeConfig())
    judged.chrf_I[7] = 100.0 - judged.chrf_I[7]
    changed_I = reliability.cross_fit(judged, DecodeConfig()) != before_I
    assert not np.any(changed_I[1::2]) and np.all(changed_I[::2])


def test_the_error_is_that_of_the_bins():
    judged = draw(4)._replace(chrf_I=np.array([100.0, 0.0, 100.0, 60.0]))
    confidence_I = np.array([0.21, 0.25, 0.9, 1.0])
    found = reliability.measure(judged, confidence_I, TRAIN_PAIRS)
    assert found.error == pytest.approx((abs(0.23 - 0.5) + abs(0.95 - 1.0)) / 2)
    assert found.table.rows == [
        ("20% to 30%", "2", "23.0%", "50.0%", "50.0"),
        ("90% to 100%", "2", "95.0%", "100.0%", "80.0"),
    ]
    assert [row[:2] for row in found.table.footer] == [
        ("all", "4"),
        ("high", "2"),
        ("mid", "1"),
        ("low", "1"),
    ]
    assert found.correlation == pytest.approx(np.corrcoef(confidence_I, judged.chrf_I)[0, 1])
    assert "error 0.160" in found.to_text() and "| 20% to 30% | 2 | " in found.to_markdown()


def test_dev_calibrates_and_other_sentences_are_measured_by_it(tmp_path):
    judged, decode = draw(100), DecodeConfig()
    assert reliability.rate(tmp_path, "7", decode, "test", judged) is None
    path_of(tmp_path, "7").parent.mkdir(parents=True)
    crossed_I = reliability.rate(tmp_path, "7", decode, "dev", judged)
    curve = find_calibration(tmp_path, "7", decode)
    assert curve and curve.sentences == 100
    found_I = reliability.rate(tmp_path, "7", decode, "test", judged)
    assert found_I is not None and crossed_I is not None
    assert np.array_equal(found_I, [curve.confidence(mean) for mean in judged.mean_I])
    assert np.array_equal(crossed_I, reliability.cross_fit(judged, decode))
