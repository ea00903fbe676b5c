"""Clean text has one form; every reason to drop a pair has a case."""
# SPDX-License-Identifier: Apache-2.0

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gshard_mt.data.cleaning import is_ratio_above, normalize, placeholders, why_drop
from gshard_mt.data.dedup import overlap_key


@given(st.text())
def test_normalized_text_is_one_line_of_nfc_and_stays_as_it_is(text):
    clean = normalize(text)
    assert clean == clean.strip() and "  " not in clean
    assert not any(unicodedata.category(each) in ("Cc", "Cs", "Zl", "Zp") for each in clean)
    assert normalize(clean) == clean
    clean.encode("utf-8")


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


@pytest.mark.parametrize(
    ("source", "english", "reason"),
    [
        ("", "a", "empty"),
        ("a", "", "empty"),
        ("same", "same", "identical"),
        ("x" * 11, "y", "too_long"),
        ("ja {a}", "yes {b}", "placeholders"),
        ("ja {a}", "yes {a}", None),
    ],
)
def test_a_pair_is_dropped_for_a_reason(source, english, reason):
    assert why_drop(source, english, 10) == reason


def test_a_ratio_is_asked_of_long_sentences_only():
    assert not is_ratio_above(10, 1, 4.0)
    assert is_ratio_above(13, 3, 4.0) and is_ratio_above(3, 13, 4.0)
    assert not is_ratio_above(12, 3, 4.0)


def test_case_and_punctuation_make_no_other_sentence():
    assert overlap_key("Failed to connect.") == overlap_key("failed to  Connect")
    assert overlap_key("...") == "..."
