"""What a filter may drop is measured on the corpus: its own language stays, other text is found."""
# SPDX-License-Identifier: Apache-2.0

import random
from collections import Counter

import pytest

from gshard_mt.config.records import CleaningConfig
from gshard_mt.data.cleaning.clean import REASONS, clean
from gshard_mt.data.cleaning.evidence import Evidence
from gshard_mt.data.cleaning.measure import calibrate
from tests.making.phrases import NUM_SENTENCES, sentence

NUMBERS = range(0, NUM_SENTENCES, NUM_SENTENCES // 300)
OTHER_NUMBERS = [number + 1 for number in NUMBERS]
ENGLISH = [sentence(number, "en") for number in NUMBERS]
MOST_LOST = 0.04  # of 300 lines from a few phrases; of real text it is 0.03

Pairs = list[tuple[str, str]]


def lines(language: str) -> list[str]:
    return [sentence(number, language) for number in NUMBERS]


def reasons(tag: str, pairs: Pairs, others: dict[str, list[str]] | None = None) -> list[str]:
    """Returns the reason to drop each pair of a corpus, calibrated on it."""
    source, english = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    found = calibrate(tag, source, english, others or {})
    evidence = Evidence(found.texts) if found.texts else None
    calibration = found.calibration._replace(evidence=evidence)
    numbers = clean(source, english, tag, CleaningConfig(), calibration).reason
    return [REASONS[number - 1] if number else "" for number in numbers]


def share_dropped(tag: str, pairs: Pairs) -> float:
    return sum(map(bool, reasons(tag, pairs))) / len(pairs)


def mixed(language: str, bad: list[str], number: int) -> tuple[Pairs, Pairs]:
    """Returns good pairs, and pairs that have bad sources instead of good ones."""
    good = list(zip(lines(language), ENGLISH, strict=True))
    return good[number:], list(zip(bad[:number], ENGLISH, strict=False))


# Faroese is in no model; under these names it isn't the language that they mean to the model.
@pytest.mark.parametrize("tag", ["fo", "szl", "ban", "lmo", "li"])
def test_a_language_that_is_not_recognised_is_kept(tag):
    assert share_dropped(tag, list(zip(lines("fo"), ENGLISH, strict=True))) <= MOST_LOST


@pytest.mark.parametrize("other", ["de", "fr", "es", "en"])
@pytest.mark.parametrize("number", [15, 60])
def test_lines_of_another_language_are_found_in_one_that_is_not_recognised(other, number):
    bad = [sentence(each, other) for each in OTHER_NUMBERS]
    good, planted = mixed("fo", bad, number)
    found = reasons("fo", good + planted)
    assert sum(map(bool, found[len(good) :])) >= 0.85 * number
    assert sum(map(bool, found[: len(good)])) <= MOST_LOST * len(good)


@pytest.mark.parametrize(("tag", "neighbour"), [("lad", "es"), ("gag", "ru")])
def test_a_language_taken_for_its_neighbour_is_kept_whatever_else_is_in_the_file(tag, neighbour):
    bad = [sentence(number, "fr") for number in OTHER_NUMBERS]
    good, planted = mixed(neighbour, bad, 90)
    found = reasons(tag, good + planted)
    assert sum(map(bool, found[len(good) :])) >= 0.95 * len(planted)
    assert not any(found[: len(good)])


@pytest.mark.parametrize("tag", ["fo", "de"])
def test_half_a_file_in_english_or_french_is_found(tag):
    for other in ("en", "fr"):
        bad = [sentence(number, other) for number in OTHER_NUMBERS]
        good, planted = mixed(tag, bad, 150)
        found = reasons(tag, good + planted)
        assert sum(map(bool, found[len(good) :])) >= 0.95 * len(planted)
        assert sum(map(bool, found[: len(good)])) <= 0.06 * len(good)


@pytest.mark.parametrize("tag", ["fo", "de", "ru"])
def test_lines_of_another_language_are_found_though_the_sample_has_none(tag):
    sample = calibrate(tag, lines(tag), ENGLISH, {})
    evidence = Evidence(sample.texts) if sample.texts else None
    good = [(sentence(number, tag), sentence(number, "en")) for number in OTHER_NUMBERS]
    bad = [(sentence(number, "fr"), sentence(number, "en")) for number in OTHER_NUMBERS[::100]]
    bad += [(sentence(7, "es"), sentence(9, "en")), (sentence(7, "en"), sentence(9, "en"))]
    source, english = [pair[0] for pair in good + bad], [pair[1] for pair in good + bad]
    calibration = sample.calibration._replace(evidence=evidence)
    reason = clean(source, english, tag, CleaningConfig(), calibration).reason
    assert (reason[len(good) :] > 0).all()
    assert (reason[: len(good)] > 0).sum() <= MOST_LOST * len(good)


@pytest.mark.parametrize(("tag", "language"), [("nl", "fr"), ("de", "fr"), ("et", "de")])
def test_a_file_under_the_name_of_a_language_that_is_recognised_is_all_dropped(tag, language):
    assert share_dropped(tag, list(zip(lines(language), ENGLISH, strict=True))) >= 0.95


@pytest.mark.parametrize("tag", ["nl", "ru"])
def test_a_file_in_another_script_is_all_dropped(tag):
    language = {"nl": "ru", "ru": "fr"}[tag]
    found = reasons(tag, list(zip(lines(language), ENGLISH, strict=True)))
    assert Counter(found)["script"] >= 0.95 * len(found)


def test_swapped_sides_are_found_in_a_language_that_is_not_recognised():
    good = list(zip(lines("fo"), ENGLISH, strict=True))
    planted = [(english, source) for source, english in good[:40]]
    found = reasons("fo", good[40:] + planted)
    assert Counter(found[len(good) - 40 :])["swapped"] >= 38


def test_a_language_like_english_is_kept_and_english_found_in_it():
    letters = str.maketrans({"e": "i", "o": "u"})  # with English words, as a pidgin has
    pidgin = [f"{text.translate(letters)[:-1]} dey for the" for text in ENGLISH]
    good = list(zip(pidgin, ENGLISH, strict=True))
    found = reasons("pcm", good)
    assert sum(map(bool, found)) <= MOST_LOST * len(good)


@pytest.mark.parametrize("number", [4, 30])
def test_a_few_lines_of_a_language_that_is_not_recognised_are_kept(number):
    pairs = list(zip(lines("fo"), ENGLISH, strict=True))[:number]
    assert not any(reasons("fo", pairs)) and not any(reasons("li", pairs))
    cyrillic = list(zip(lines("ru"), ENGLISH, strict=True))[:number]
    assert not any(reasons("szl", cyrillic))


def test_a_neighbour_with_a_corpus_of_its_own_is_found_by_comparison():
    german = [sentence(number, "de") for number in OTHER_NUMBERS]
    good, planted = mixed("fo", german, 30)
    found = reasons("fo", good + planted, {"de": lines("de")})
    assert sum(map(bool, found[len(good) :])) >= 28
    assert sum(map(bool, found[: len(good)])) <= MOST_LOST * len(good)
    numbers = random.Random(0).sample(range(NUM_SENTENCES), 600)
    named = [(sentence(number, "de"), sentence(number, "en")) for number in numbers[:300]]
    found = reasons("fo", named, {"de": [sentence(number, "de") for number in numbers[300:]]})
    assert sum(map(bool, found)) >= 0.9 * len(found)


def test_what_is_not_recognised_is_one_line():
    found = calibrate("fo", lines("fo"), ENGLISH, {})
    (note,) = found.notes
    assert "does not know the language" in note and "data.cleaning.language" in note
    assert not calibrate("de", lines("de"), ENGLISH, {}).notes
