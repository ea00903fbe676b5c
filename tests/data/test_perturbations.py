"""Perturbed sentences are what users type: both sides agree, and placeholders stay whole."""
# SPDX-License-Identifier: Apache-2.0

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gshard_mt.config.records import AugmentationConfig
from gshard_mt.data.normalization import normalize
from gshard_mt.data.perturbations import PERTURBATIONS, Sentence, perturb, title_case, upper_case


def test_the_config_has_a_share_for_each():
    fields = AugmentationConfig.__dataclass_fields__
    assert {name for name, field in fields.items() if field.type is float} == set(PERTURBATIONS)


@pytest.mark.parametrize(
    ("language", "text", "upper", "title"),
    [
        ("de", "Große Männer, und so", "GROSSE MÄNNER, UND SO", "Große Männer, Und So"),
        ("en", "don't say it’s o'clock", "DON'T SAY IT’S O'CLOCK", "Don't Say It’s O'clock"),
        ("tr", "iki ışık", "İKİ IŞIK", "İki Işık"),
        ("az", "bizim", "BİZİM", "Bizim"),
        ("el", "Καλημέρα, ΐσως", "ΚΑΛΗΜΕΡΑ, ΪΣΩΣ", "Καλημέρα, Ϊ́σως"),
        ("hr", "ǆep", "ǄEP", "ǅep"),
        ("ka", "გამარჯობა", "გამარჯობა", "გამარჯობა"),
        ("zh", "你好", "你好", "你好"),
        ("fr", "l'été {nom_de}, %(nom)s ou %s", "L'ÉTÉ {nom_de}, %(nom)s OU %s",
         "L'été {nom_de}, %(nom)s Ou %s"),
        ("nl", "zie <b>hier</b> en/of a.nl/b", "ZIE <b>HIER</b> EN/OF a.nl/b",
         "Zie <b>Hier</b> En/Of a.nl/b"),
        ("es", "ver src/a/b.py o a@b.es", "VER src/a/b.py O a@b.es", "Ver src/a/b.py O a@b.es"),
        ("it", "{{ numero di file }} ok", "{{ numero di file }} OK", "{{ numero di file }} Ok"),
    ],
)  # fmt: skip
def test_case_is_the_languages_own_and_placeholders_keep_theirs(language, text, upper, title):
    assert upper_case(text, language) == upper
    assert normalize(title_case(text, language)) == normalize(title)


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_a_message_with_variants_stays_as_it_is(name):
    message = "{n, plural, one {# file} other {# files}} of the disk."
    pair = Sentence("de", message.replace("file", "Datei"), message)
    assert perturb(name, pair, "0") == tuple(pair[1:])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ende.", "Ende"),
        ("Wirklich?!", "Wirklich"),
        ("Und dann ...", "Und dann"),
        ("终于。", "终于"),
        ("अंत।", "अंत"),
        ("{name}.", "{name}"),
        ("zu 100 %.", "zu 100 %"),
        ('Er sagt: "Ja."', 'Er sagt: "Ja."'),
        ("ohne", "ohne"),
    ],
)
def test_final_punctuation_goes_from_both_sides(text, expected):
    pair = Sentence("de", text, "The end.")
    assert perturb("no_final_punctuation", pair, "0") == (expected, "The end")


def test_text_of_punctuation_alone_keeps_it():
    assert perturb("no_final_punctuation", Sentence("de", "...", "What?"), "0") == ("...", "What?")


def test_typos_are_near_the_source_and_leave_english_alone():
    source = "Zwei freundliche Männer zahlen {betrag} unter src/main/zahlen.py an https://zahlen.de"
    found = {perturb("typos", Sentence("de", source, "x"), str(seed)) for seed in range(50)}
    assert len(found) > 30 and {english for _, english in found} == {"x"}
    for text, _ in found:
        assert text != source or len(found) > 1
        words = text.split(" ")
        assert len(words) == len(source.split(" "))
        assert words[4] == "{betrag}" and words[6] == "src/main/zahlen.py"
        assert words[8] == "https://zahlen.de"
        assert all(abs(len(a) - len(b)) <= 1 for a, b in zip(words, source.split(" "), strict=True))
    assert perturb("typos", Sentence("zh", "你好", "Hello"), "0") == ("你好", "Hello")


def test_a_placeholder_takes_the_place_of_a_name_or_number_that_both_sides_have():
    pair = Sentence("de", "Tom hat 25 Katzen, 250 Hunde.", "Tom has 25 cats, 250 dogs.")
    for seed in range(30):
        found = perturb("placeholders", pair, str(seed))
        gone = [word for word in ("Tom", "25", "250") if not re.search(rf"\b{word}\b", found[0])]
        assert len(gone) == 1 and not re.search(rf"\b{gone[0]}\b", found[1])
        before, after = re.split(rf"\b{gone[0]}\b", pair.source)
        placeholder = found[0].removeprefix(before).removesuffix(after)
        assert found[1] == placeholder.join(re.split(rf"\b{gone[0]}\b", pair.english))
        assert set(placeholder) & set("{%")


def test_without_one_it_stands_at_the_same_end_of_both():
    for seed in range(20):
        source, english = perturb("placeholders", Sentence("de", "eine Katze", "a cat"), str(seed))
        before, after = source.split("eine Katze")
        assert english == f"{before}a cat{after}" and bool(before) != bool(after)


@settings(deadline=None)
@given(st.text(max_size=40), st.text(max_size=40), st.sampled_from([*PERTURBATIONS]), st.integers())
def test_any_text_gives_normalized_text_that_a_seed_repeats(source, english, name, seed):
    pair = Sentence(
        random.Random(seed).choice(["de", "tr", "el", "ka"]), *map(normalize, (source, english))
    )
    found = perturb(name, pair, str(seed))
    assert found == perturb(name, pair, str(seed))
    assert found == tuple(map(normalize, found))
    assert [bool(side) for side in found] == [
        bool(side) or name == "placeholders" for side in pair[1:]
    ]


def test_a_long_line_without_spaces_takes_no_time():
    line = "{" * 20_000 + "a/" * 20_000 + "<" * 20_000
    for name in PERTURBATIONS:
        perturb(name, Sentence("de", line, line), "0")
