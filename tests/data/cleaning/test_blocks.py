"""What is done to a block at once is what would be done to each text alone."""
# SPDX-License-Identifier: Apache-2.0

import unicodedata

import numpy as np
import pytest
import regex
import xxhash
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gshard_mt.config.records import CleaningConfig
from gshard_mt.data.cleaning.characters import (
    BROKEN,
    CHANGED,
    DENSE,
    DIGIT,
    HIDDEN,
    LATIN,
    LETTER,
    OWN,
    classes_of,
    is_broken,
)
from gshard_mt.data.cleaning.clean import clean, normalize_all
from gshard_mt.data.cleaning.fold import fold_all, hash_texts, near_forms
from gshard_mt.data.cleaning.placeholders import is_testable_all, num_words_all, placeholders
from gshard_mt.data.normalization import is_hidden, normalize, normalized

# Any code point, lone surrogates too, and rather those that are trouble.
_ODD = st.sampled_from(
    "\n\r\t\v\f\x00\x1c\x85 \u00a0\u2028\u2029\u3000\u00ad\u200b\u200e\u202a\u2066\ufeff\ufffd"
    "\ue000\u2581\ud800\udfff\u0301\u0327\u0345\u093c\u094d\u09be\u09c7\u1100\u1161\u11a8\uff9e\uff76"
    "ßİıΣςǰﬁ½™…！Ａ１٣๕क़Å\u212bé{}<&%$;'.,!?aZé\U0001f600\U000e0001\U0010ffff"
)
ANY_TEXT = st.text(st.characters(codec=None) | _ODD | _ODD, max_size=30)
UNTIMED = settings(deadline=None)  # the first call makes tables of all characters
BLOCKS = st.lists(ANY_TEXT, max_size=8)


def slow_normalize(text: str) -> str:
    kept = ""
    for each in text:
        if each.isspace():
            kept += " "
        elif unicodedata.category(each) in ("Cc", "Cs") or each in "\u00ad\u200b\ufeff\u061c":
            continue
        elif each in "\u200e\u200f\u202a\u202b\u202c\u202d\u202e" or "\u2060" <= each < "\u2070":
            kept += each if each == "\u2065" else ""  # not assigned
        else:
            kept += {"\u2581": "_"}.get(each, each)
    if not regex.search(r"[^\p{Default_Ignorable_Code_Point}\ufff9-\ufffb\u2800 ]", kept):
        return ""
    return unicodedata.normalize("NFC", " ".join(filter(None, kept.split(" "))))


def slow_fold(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text.replace("\n", " ")).casefold()
    kept = [each for each in folded if unicodedata.category(each)[0] not in ("P", "Z")]
    return "".join(kept) or text


def slow_num_words(text: str) -> int:
    return sum(any(character.isalpha() for character in word) for word in text.split())


def slow_near(text: str) -> str:
    kept = [
        "0" if each.isdecimal() else each
        for each in text.replace("\n", " ")
        if unicodedata.category(each)[0] != "S"
    ]
    return "".join(kept) or text


@UNTIMED
@given(BLOCKS)
@example(["a\u200b\u0301", "e\n\u0301", "\u0301", " ", "", "  a  b ", "\u1100\u1161"])
@example(["a\u0327\u0301", "a\u0301\u0327"])
@example(["\u200d\ufe0f \u2800", "\u3164", "\u0646\u200c\u0647", "\u061c\u206a1"])
def test_normalize_all_is_a_slow_normalize_of_each(texts):
    assert normalize_all(texts) == [slow_normalize(text) for text in texts]
    assert normalize_all(texts) == [normalize(text) for text in texts]


@UNTIMED
@given(ANY_TEXT)
def test_normalized_text_is_one_line_of_nfc_and_stays_as_it_is(text):
    (clean_text,) = normalize_all([text])
    assert clean_text == clean_text.strip() and "  " not in clean_text
    categories = {unicodedata.category(each) for each in clean_text}
    assert categories.isdisjoint({"Cc", "Cs", "Zl", "Zp"})
    assert unicodedata.is_normalized("NFC", clean_text)
    assert normalize_all([clean_text]) == [clean_text]
    clean_text.encode("utf-8")


@UNTIMED
@given(BLOCKS)
@example(
    ["Straße", "ＡＢＣ！", "½", "", "...", "\ue000", "İstanbul", "a\u0327\u0301", "\u09c7\u09be"]
)
def test_fold_all_is_a_slow_fold_of_each(texts):
    assert fold_all(texts) == [slow_fold(text) for text in texts]


@UNTIMED
@given(BLOCKS)
@example(["a1\u0662$b", "$", "", "\u0915\u093f"])
def test_near_forms_are_slow_near_forms_of_each(texts):
    assert near_forms(texts) == [slow_near(text) for text in texts]


@UNTIMED
@given(BLOCKS)
def test_hashes_are_xxh3_of_utf_8(texts):
    expected = [xxhash.xxh3_64(text.encode("utf-8", "surrogatepass")).intdigest() for text in texts]
    hashes = hash_texts(texts)
    assert hashes.dtype == np.uint64 and hashes.tolist() == expected


def test_a_hash_is_the_same_for_ever():
    assert hash_texts(["", "Straße"]).tolist() == [0x2D06800538D394C2, 0x3CA977A6B5EE5D71]


@UNTIMED
@given(BLOCKS)
@example(["two words", "see http://x.y z", "50% of it", "{a} b c", "a1 2b 3", "$t(x) y z"])
def test_words_are_counted_and_tests_are_found_as_one_by_one(texts):
    counts = num_words_all(texts)
    assert counts.tolist() == [slow_num_words(text) for text in texts]
    is_testable = [slow_num_words(text) >= 2 and not placeholders(text) for text in texts]
    assert is_testable_all(texts, counts).tolist() == is_testable


@UNTIMED
@given(st.lists(st.tuples(ANY_TEXT, ANY_TEXT), max_size=8), st.sampled_from(["de", "ru", "zh"]))
def test_what_happens_to_a_pair_depends_on_it_alone(pairs, language):
    config = CleaningConfig(max_characters=20)
    source, english = [mine for mine, _ in pairs], [its for _, its in pairs]
    block = clean(source, english, language, config)
    for row, (mine, its) in enumerate(pairs):
        alone = clean([mine], [its], language, config)
        assert (alone.source, alone.english) == ([block.source[row]], [block.english[row]])
        assert alone.reason.tolist() == [block.reason[row]]
        assert block.source[row] == slow_normalize(mine) or len(mine) > 20 or len(its) > 20


def test_the_table_of_all_characters_is_what_each_one_is():
    table = classes_of(frozenset({"Cyrl"}))
    for code in range(0x110000):
        character = chr(code)
        assert bool(table[code] & BROKEN) == is_broken(character)
        assert bool(table[code] & CHANGED) == (normalized(character) != character and code != 10)
        assert bool(table[code] & DIGIT) == character.isdecimal()
        assert bool(table[code] & HIDDEN) == is_hidden(character)
    for letters, kinds in (
        ("яҒ", LETTER | OWN),
        ("aÉ", LETTER | LATIN),
        ("漢かア한", LETTER | DENSE),
    ):
        for letter in letters:
            assert table[ord(letter)] & (LETTER | LATIN | OWN | DENSE) == kinds
    assert not any(table[ord(each)] & LETTER for each in "1!ー ्")


@pytest.mark.parametrize("function", [normalize_all, fold_all, near_forms])
def test_an_empty_block_stays_empty(function):
    assert function([]) == []
    assert hash_texts([]).tolist() == [] and num_words_all([]).tolist() == []
    assert clean([], [], "de", CleaningConfig()).reason.tolist() == []


def test_case_spaces_and_punctuation_make_no_other_sentence():
    assert len({*fold_all(["Failed to connect.", "failed  to - CONNECT!"])}) == 1
    assert len({*fold_all(["Ｆａｉｌｅｄ", "failed"])}) == 1
    assert len({*fold_all(["कि", "का"])}) == 2
    assert fold_all(["..."]) == ["..."]
    assert len({*near_forms(["room12€", "room34", "room5x"])}) == 2
