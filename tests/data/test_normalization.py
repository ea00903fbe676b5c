"""The same sentence in whatever form is one text, for training and for translation."""
# SPDX-License-Identifier: Apache-2.0

import unicodedata

import pytest
import regex

from gshard_mt.data.normalization import is_hidden, normalize, normalized, one_line

SENTENCE = "Tiếng Việt: où? Åse är här."


@pytest.mark.parametrize(
    "text",
    [
        unicodedata.normalize("NFD", SENTENCE),
        f"\ufeff{SENTENCE}\r",
        SENTENCE.replace(" ", "\u00a0"),
        SENTENCE.replace(" ", "\x85"),
        SENTENCE.replace(" ", "\u2028 \u2029"),
        SENTENCE.replace(" ", "\u3000\t"),
        "\u00ad".join(SENTENCE),
        "\u200b".join(SENTENCE),
        f"\u202b{SENTENCE}\u202c\u200f",
        f"\u2068{SENTENCE}\u2069 \u061c",
        "\u2060\x00".join(SENTENCE),
        f" \x0b{SENTENCE}\x1c",
        "Tiếng Việt: où? \u212bse är här.",  # the Ångström sign
    ],
)
def test_other_forms_of_a_sentence_are_the_sentence(text):
    assert normalize(text) == SENTENCE


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \u00a0\u3000",
        "\u200b\ufeff",
        "\u200d",
        "\ufe0f \u200c",
        "\u180e\u034f",
        "\u2800\u2800",
        "\u3164",
        "\U000e0041\U000e007f",
        "\x85\x0c\x00",
    ],
)
def test_a_line_of_which_nothing_can_be_seen_is_empty(text):
    assert normalize(text) == ""


@pytest.mark.parametrize(
    "text",
    ["می\u200cخواهم", "ක්\u200dරි", "👩\u200d👩\u200d👧", "❤\ufe0f", "ＡＢＣ！", "ﬁ ½", "Straße",
     "🏴\U000e0067\U000e007f"],
)  # fmt: skip
def test_what_can_be_seen_or_is_needed_stays(text):
    assert normalize(text) == text


def test_hidden_characters_are_those_that_unicode_ignores_and_a_few_more():
    every = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    ignored = set(regex.findall(r"\p{Default_Ignorable_Code_Point}", "".join(every)))
    hidden = set(filter(is_hidden, every))
    assert hidden - ignored == {"\u2800", "\ufff9", "\ufffa", "\ufffb"}
    assert {unicodedata.category(each) for each in ignored - hidden} <= {"Cn"}
    # The table of `normalize` has the first plane alone.
    assert all(normalized(each) == each for each in every if each > "\uffff")


def test_raw_text_fits_in_a_column_and_is_otherwise_as_it_was():
    assert one_line("a\tb\r\nc\rd\ne\u2028 \u200b ") == "a b c d e\u2028 \u200b "
    assert one_line("x\ud83d").encode() == "x\ufffd".encode()
