"""Words in capitals are marked small letters, and nothing is lost by it."""
# SPDX-License-Identifier: Apache-2.0

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gshard_mt.data.case_marks import mark_case, spellings, unmark_case
from gshard_mt.data.normalization import normalize

_CASES = st.sampled_from([str, str.upper, str.title])
_WORDS = st.builds(lambda text, change: change(text), st.text(max_size=6), _CASES)


def _spelled(line: str) -> str:
    return line.replace("<", "\x0e").replace(">", "\x0f")


@pytest.mark.parametrize(
    "line, marked",
    [
        ("THE CAT SLEEPS.", "< the cat sleeps."),
        ("The sign says NO ENTRY here", "The sign says < no entry > here"),
        ("STOP!", "< stop!"),
        ("5 CATS & 3 DOGS, 7", "5 < cats & 3 dogs, > 7"),
        ("THE CAT OF {name} SLEEPS", "< the cat of > {name} < sleeps"),
        ("ДВЕ СОБАКИ, Ο ΣΚΥΛΟΣ", "< две собаки, ο σκυλος"),
        ("DIE STRASSE", "< die strasse"),
        ("NATO and the EU, I think", "NATO and the EU, I think"),
        ("A B C", "A B C"),
        ("5 + 5", "5 + 5"),
        ("两只狗 在 睡觉", "两只狗 在 睡觉"),
        ("small and Title Case", "small and Title Case"),
        ("", ""),
    ],
)
def test_words_in_capitals_are_marked(line, marked):
    assert mark_case(line) == _spelled(marked)
    assert unmark_case(_spelled(marked)) == line


@pytest.mark.parametrize(
    "line", ["DIE STRAẞE UND ICH", "ǅ ŒUVRE ÀÉ", "İSTANBUL'DA KEDİ", "Ⓐ ⓐ ŉA ǰA ΐΑ", "ΌΣ ΆΣ ᾈ ᾼ"]
)
def test_what_small_letters_would_change_stays_as_it_is(line):
    line = normalize(line)
    assert unmark_case(mark_case(line)) == line


@pytest.mark.parametrize(
    "word, found",
    [("HUND", ["hund", "Hund"]), ("«ÇA!»", ["«ça!»", "«Ça!»"]), ("7", ["7"]), ("ΟΣ", ["ος", "Ος"])],
)
def test_a_word_in_capitals_has_other_spellings(word, found):
    assert list(dict.fromkeys(spellings(word))) == found


@given(st.lists(_WORDS).map(lambda words: normalize(" ".join(words))))
def test_marks_lose_nothing(line):
    assert unmark_case(mark_case(line)) == line
    assert unmark_case(mark_case(line, lambda word: spellings(word)[-1])) == line


@pytest.mark.parametrize(
    "line, text",
    [
        ("<the cat>", "THE CAT"),
        ("a < cat < and > a > dog", "a CAT AND a dog"),
        ("> a cat <", "a cat"),
        ("<", ""),
    ],
)
def test_marks_that_a_model_puts_anywhere_are_read(line, text):
    assert unmark_case(_spelled(line)) == text
