"""Languages have one code each, whatever a corpus calls them."""
# SPDX-License-Identifier: Apache-2.0

import pytest
import regex

from gshard_mt.errors import DataError
from gshard_mt.languages import english_name, language_code, merge_locales, scripts_of


@pytest.mark.parametrize(
    ("tag", "code"),
    [("deu", "de"), ("ger", "de"), ("de", "de"), ("gsw", "gsw"), ("pt-BR", "pt"), ("es-419", "es")]
    + [("zh-Hans", "zh"), ("zh_Hant", "zh"), ("sr-Latn", "sr_Latn"), ("iw", "he"), ("ang", "ang")],
)
def test_a_language_has_one_code(tag, code):
    assert language_code(tag) == code


@pytest.mark.parametrize("tag", ["xx", "klingon", "", "d", "de-", "../de"])
def test_an_unknown_language_is_refused(tag):
    with pytest.raises(DataError, match="accepted: .*codes like de"):
        language_code(tag)


def test_a_script_is_kept_only_where_two_meet():
    assert merge_locales(["sr", "sr-Latn"]) == {"sr": "sr", "sr-Latn": "sr_Latn"}
    assert merge_locales(["sr-Latn"]) == {"sr-Latn": "sr"}
    assert set(merge_locales(["zh-Hans", "zh-Hant", "zh"]).values()) == {"zh"}
    assert set(merge_locales(["es", "es-419"]).values()) == {"es"}


def test_names_are_plain_english():
    assert english_name("de") == "German"
    assert english_name("el") == "Modern Greek"
    assert english_name("sr_Latn") == "Serbian (Latn)"


@pytest.mark.parametrize(
    ("tag", "scripts"),
    [("de", {"Latn"}), ("uk", {"Cyrl"}), ("sr", {"Cyrl", "Latn"}), ("sr_Latn", {"Latn"})]
    + [("zh-Hant", {"Hani"}), ("ja", {"Hani", "Hira", "Kana"}), ("ko", {"Hang", "Hani"})]
    + [("pa", {"Arab", "Guru"}), ("grc", {"Grek"}), ("tlh", set())],
)  # fmt: skip
def test_a_language_has_its_scripts(tag, scripts):
    assert scripts_of(tag) - {"Cprt"} == scripts


def test_a_script_of_a_language_is_one_of_unicode():
    for tag in ("az", "ff", "ha", "kk", "mn", "sd", "uz", "yue"):
        for script in scripts_of(tag):
            assert regex.compile(rf"\p{{sc={script}}}")
