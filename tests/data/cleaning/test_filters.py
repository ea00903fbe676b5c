"""Every reason to drop a pair has cases, and a switch; the first that holds is the one given."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses

import numpy as np
import pytest

from gshard_mt.config.records import CleaningConfig
from gshard_mt.data.cleaning.clean import REASONS, UsualRatio, clean, is_ratio_above, usual_ratio
from gshard_mt.data.cleaning.placeholders import placeholders

# (source, English), language, reason; None is a pair that is kept.
CASES = [
    (("", "a"), "de", "empty"),
    (("a", " \u200b"), "de", "empty"),
    (("x" * 1001, "y"), "de", "too_long"),
    (("x", " " * 1001), "de", "too_long"),
    (("x" * 1000, "y"), "de", None),
    (("Es ist k\u0085lt", "It is cold"), "de", "control_characters"),
    (("Es ist kalt", "It is c\x00ld"), "de", "control_characters"),
    (("Es ist k\ufffdlt", "It is cold"), "de", "control_characters"),
    (("Es ist k\ud800lt", "It is cold"), "de", "control_characters"),
    (("Es ist k\ue123lt", "It is cold"), "de", "control_characters"),
    (("Es ist k\u0378lt", "It is cold"), "de", "control_characters"),
    (("Es ist\tkalt\r\n", "It is\u00a0c\u00adold\u200e \U0001fae9"), "de", None),
    (("Wi-Fi 6", "wi fi 6!"), "de", "copied"),
    (("Ｋａｆｆｅｅ", "Kaffee"), "de", "copied"),
    (("Kaffee &amp; Kuchen", "Coffee and cake"), "de", "html"),
    (("Kaffee & nbsp ; Kuchen", "Coffee & nbsp ; cake"), "de", "html"),
    (("Es ist <b>kalt</b>", "It is cold"), "de", "html"),
    (("Es ist kalt<br/>", "It is cold"), "de", "html"),
    (("Es ist <b>kalt</b>", "It is <b>cold</b>"), "de", None),
    (("Kaffee & Kuchen; Tee", "Coffee & cake; tea"), "de", None),
    (("a < b und c > d", "a < b and c > d"), "de", None),
    (("ja {a}", "yes {b}"), "de", "placeholders"),
    (("ja <Ihr Name>", "yes <your name>"), "de", "placeholders"),
    (("ja {a}", "yes {a}"), "de", None),
    (("Es war 1990", "It was 1991"), "de", "numbers"),
    (("Es waren 12 oder 13", "There were 12 or 31"), "de", "numbers"),
    (("Er zahlt 10 Euro", "He pays 100 euros"), "de", "numbers"),
    (("Все 12", "All 13"), "ru", "numbers"),
    (("كان ١٩٩٠", "It was 1990"), "ar", None),
    (("Es waren 1.200,50", "There were 1,200.50"), "de", None),
    (("कुल १,१०,१८२", "In all 110,182"), "hi", None),
    (("Um 14.30 Uhr", "At 2:30"), "de", None),
    (("Um 15 Uhr", "At 3pm"), "de", None),
    (("1000万円", "10 million yen"), "ja", None),
    (("5 Millionen", "5,000,000"), "de", None),
    (("Die 50er und 60er", "The 1950s and 1960s"), "de", None),
    (("3 Hunde und 12 Katzen", "three dogs and 12 cats"), "de", None),
    (("The dogs are in the garden again", "Die Hunde sind wieder im Garten"), "de", "swapped"),
    (("The dogs are in it", "Собаки в нём"), "ru", "swapped"),
    (("The dogs are in the garden again", "Les chiens sont dans le jardin"), "de", "language"),
    (("The dogs are in the garden again", "The dogs were in the garden"), "de", "language"),
    (("Les chiens sont dans le jardin", "The dogs are in the garden"), "de", "language"),
    (("Die Hunde sind im Garten", "Les chiens sont dans le jardin"), "de", "language"),
    (("LES CHIENS SONT DANS LE JARDIN", "The dogs are in the garden"), "de", "language"),
    (("Я сегодня ничего не буду делать", "I won't do anything today"), "uk", "language"),
    (("Я сьогодні нічого не робитиму", "I won't do anything today"), "uk", None),
    (("Hundene er i haven igen", "The dogs are in the garden"), "nb", None),
    (("Schalte {device_name} {the_state} ein", "Turn on {device_name} {the_state}"), "de", None),
    (("The dogs are in the garden again", "Asebbaɣ n tewwurt-nni"), "kab", "swapped"),
    (("Собаки", "The dogs"), "de", "script"),
    (("Die Hunde", "Собаки"), "de", "script"),
    (("犬が庭にいます", "The dogs are in the garden"), "zh", "script"),
    (("设置 UniFi Protect", "Set up UniFi Protect"), "zh", None),
    (("Пси су у башти", "The dogs are in the garden"), "sr", None),
    (("Psi su u bašti", "The dogs are in the garden"), "sr", None),
    (("Пси су у башти", "The dogs are in the garden"), "sr_Latn", "script"),
    (("12:30", "12.30 h"), "de", None),
    (("Nëna ime blen bukë të freskët çdo mëngjes", "My mother buys fresh bread"), "als", None),
    (("دایکم هەموو بەیانییەک نانی تازە دەکڕێت", "My mother buys fresh bread"), "ku", None),
    (("میری ماں روز سویرے تازی روٹی پکاندی اے", "My mother bakes fresh bread"), "pa-PK", None),
    (("میری ماں روز سویرے تازی روٹی پکاندی اے", "My mother bakes fresh bread"), "pa_Arab", None),
    (("Anam er saba taze ekmek ala", "My mother buys fresh bread"), "crh", None),
    (("Анам эр саба тазе экмек ала", "My mother buys fresh bread"), "crh", None),
    (("Bu kitob juda yaxshi", "This book is very good"), "uzn_Latn", None),
    (("أمي تشتري الخبز الطازج كل صباح", "My mother buys fresh bread"), "arb", None),
    (("我妈妈每天早上买新鲜面包", "My mother buys fresh bread"), "cmn_Hans", None),
    (("Mijn moeder koopt elke ochtend vers brood", "My mother buys bread"), "als", "language"),
]


def reason_of(pair: tuple[str, str], language: str, config: CleaningConfig) -> str | None:
    number = clean([pair[0]], [pair[1]], language, config).reason[0]
    return REASONS[number - 1] if number else None


@pytest.mark.parametrize(("pair", "language", "reason"), CASES)
def test_a_pair_is_kept_or_dropped_for_a_reason(pair, language, reason):
    assert reason_of(pair, language, CleaningConfig()) == reason


def test_every_reason_has_a_case():
    assert {reason for _, _, reason in CASES} == {None, *REASONS}


@pytest.mark.parametrize(("pair", "language", "reason"), [case for case in CASES if case[2]])
def test_a_filter_that_is_off_lets_its_pair_through(pair, language, reason):
    if reason == "empty":
        assert not hasattr(CleaningConfig(), "empty")
        return
    off = {"max_characters": 0} if reason == "too_long" else {reason: False}
    if reason == "swapped":  # these are of another script and language too
        off |= {"script": False, "language": False}
    if reason == "script":
        off |= {"language": False}
    left = reason_of(pair, language, dataclasses.replace(CleaningConfig(), **off))
    assert left is None or (reason, left) == ("too_long", "empty")


def test_the_first_reason_that_holds_is_given():
    pair = ("The dogs &amp; {a} 12 are in the garden", "Собаки {b} 13")
    config, order = CleaningConfig(), []
    while found := reason_of(pair, "ru", config):
        order.append(found)
        config = dataclasses.replace(config, **{found: False})
    assert order == ["html", "placeholders", "numbers", "swapped", "script", "language"]
    assert order == [reason for reason in REASONS if reason in order]
    for pair, reason in [
        (("\x00" * 1001, ""), "too_long"),
        (("\x00", "a"), "empty"),
        (("a\x00", "a"), "control_characters"),
        (("&amp;", "&amp;"), "copied"),
        (("<b>{a}", "a"), "html"),
    ]:
        assert reason_of(pair, "de", CleaningConfig()) == reason


def test_the_switches_are_the_reasons():
    switches = {field.name for field in dataclasses.fields(CleaningConfig) if field.type is bool}
    assert switches - {"duplicates", "near_duplicates"} == {*REASONS} - {"empty", "too_long"}


def test_a_dropped_pair_is_normalized_too_and_a_long_one_cut():
    source, english, *_ = clean(["  a\x00 b", "x" * 99], ["c", " y"], "de", CleaningConfig(9))
    assert (source, english) == (["a b", "x" * 9], ["c", "y"])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Turn on {entity} now", {"{entity}"}),
        ("%(name)s has %d of 100% or %1$s", {"%(name)s", "%d", "%1$s"}),
        ("[%key:common::ok%] <b>bold</b>", {"[%key:common::ok%]", "<b>", "</b>"}),
        ("see https://example.org/x ok", {"https://example.org/x"}),
        ("50% sure, a < b and c > d", set()),
    ],
)
def test_placeholders_are_found(text, found):
    assert placeholders(text) == found


def test_a_ratio_is_asked_of_long_sentences_only():
    length, other = np.array([10, 13, 3, 12]), np.array([1, 3, 13, 3])
    usual = UsualRatio()
    assert is_ratio_above(length, other, 4.0, usual).tolist() == [False, True, True, False]
    assert not is_ratio_above(np.array([1000]), np.array([1]), 0, usual).any()


@pytest.mark.parametrize("usual", [0.25, 1.0, 2.6, 4.0])
def test_a_ratio_is_compared_with_the_languages_own(usual):
    target = np.random.default_rng(0).integers(48, 60, 1000)
    source = np.round(usual * target).astype(int)
    found = usual_ratio(source, target)
    assert found.median == pytest.approx(usual, rel=0.1)
    assert not is_ratio_above(source, target, 3.0, found).any()
    assert is_ratio_above(source // 4, target, 3.0, found).all()
    assert is_ratio_above(source, target // 5, 3.0, found).all()


def test_half_of_the_pairs_may_be_noise_without_a_change_of_what_is_usual():
    target = np.full(1000, 12)
    source = np.full(1000, 36)
    source[:400] //= 9
    found = is_ratio_above(source, target, 3.0, usual_ratio(source, target))
    assert found.tolist() == [True] * 400 + [False] * 600


def test_ratios_that_vary_much_have_a_higher_limit():
    target = np.full(999, 20)
    source = np.round(20 * np.exp(np.linspace(-1.2, 1.2, 999))).astype(int)
    usual = usual_ratio(source, target)
    assert usual.deviation == pytest.approx(0.6, abs=0.05)
    assert not is_ratio_above(source, target, 3.0, usual).any()
    assert is_ratio_above(source, target, 3.0, usual._replace(deviation=0.1)).any()


def test_a_pair_alone_has_its_own_ratio():
    source, target = np.array([100]), np.array([2])
    assert not is_ratio_above(source, target, 3.0, usual_ratio(source, target)).any()


def test_a_number_of_any_length_is_read():
    assert (
        reason_of(("9" * 900 + " Euro", "8" * 900 + " euros"), "de", CleaningConfig()) == "numbers"
    )
