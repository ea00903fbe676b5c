"""Which characters are signs of a broken encoding doesn't depend on the version of Python."""
# SPDX-License-Identifier: Apache-2.0

import unicodedata

import pytest

from gshard_mt.data.cleaning.characters import BROKEN, classes_of, is_broken


@pytest.mark.parametrize(
    "letter",
    [
        "\u0cf3",  # Kannada, Unicode 15
        "\U0001e4d0",  # Nag Mundari, Unicode 15
        "\U00011f04",  # Kawi, Unicode 15
        "\U00010d50",  # Garay, Unicode 16
        "\ua7cb",  # Latin, Unicode 16
    ],
)
def test_letters_that_are_new_in_unicode_are_text(letter):
    assert not is_broken(letter)
    assert not classes_of(frozenset())[ord(letter)] & BROKEN


@pytest.mark.parametrize("character", ["\u0378", "\ue000", "\ufffe", "\ud800", "\x00", "\x85"])
def test_characters_of_broken_text_are_found(character):
    assert is_broken(character)


def test_what_an_old_python_calls_assigned_is_not_broken():
    for code in range(0x110000):
        if unicodedata.category(chr(code)) not in ("Cn", "Cc", "Cs", "Co") and code != 0xFFFD:
            assert not is_broken(chr(code))
