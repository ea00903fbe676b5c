"""Characters: tables of what each Unicode character means to cleaning, for NumPy to index."""
# SPDX-License-Identifier: Apache-2.0

import functools
import unicodedata
from collections.abc import Callable

import numpy as np
import regex

from gshard_mt.data.normalization import is_hidden, normalized

# Classes of characters, bits of a uint16.
BROKEN = 1  # shows that bytes were decoded with the wrong encoding
CHANGED = 2  # normalization replaces or removes it
MARKUP = 4  # occurs in every placeholder, tag, entity or address
DIGIT = 8
LETTER = 16  # of some script
LATIN = 32  # a letter
OWN = 64  # a letter in a script of the language
DENSE = 128  # a letter that carries as much as three Latin ones
COMPOSES = 256  # NFC may change it or compose it with the preceding character
MARK = 512  # NFC may reorder two of these in a row
HIDDEN = 1024  # can't be seen by itself

NUM_CODES = 0x110000
NOTHING = 0xFFFFFFFF  # in a table of code points: the character is removed

# All others are unassigned or private use: unchanged in every table, and BROKEN. The second range
# can't be seen, whether assigned or not.
_ASSIGNED = (range(0x32400), range(0xE0000, 0xE1000))
# New versions of Unicode add emoji and Han here: characters not assigned yet are not BROKEN.
_GROWING = (range(0x1F000, 0x1FC00), range(0x20000, 0x40000))
# No letters: private use, unassigned, surrogates, and controls except those that serve as spaces.
_BROKEN_CLASS = r"[[\p{Co}\p{Cn}\p{Cs}\p{Cc}\N{REPLACEMENT CHARACTER}]--[\t\n\v\f\r]]"
_BROKEN = regex.compile(rf"(?V1){_BROKEN_CLASS}")
_DENSE_SCRIPTS = ("Hani", "Hira", "Kana", "Hang", "Bopo", "Yiii")
# Scripts that languages of today are written in, ISO 15924.
_LIVING_SCRIPTS = (
    "Latn Cyrl Arab Deva Beng Grek Hebr Hani Hira Kana Hang Thai Armn Geor Ethi Adlm Bali "
    "Batk Bopo Bugi Cakm Cans Cham Cher Copt Gong Gonm Gujr Guru Hmng Hmnp Java Kali Khmr "
    "Knda Lana Laoo Lepc Limb Lisu Mand Mlym Mong Mroo Mtei Mymr Nkoo Olck Orya Osge Plrd "
    "Rjng Rohg Saur Sinh Sund Sylo Syrc Takr Tale Talu Taml Tavt Telu Tfng Thaa Tibt Vaii "
    "Wara Wcho Yiii"
).split()


def code_points(text: str) -> np.ndarray:
    """Returns the text as uint32 code points, including lone surrogates."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def to_text(codes: np.ndarray) -> str:
    """Returns the text of code points."""
    return codes.tobytes().decode("utf-32-le", "surrogatepass")


def is_broken(character: str) -> bool:
    """Tells whether a character only occurs in text decoded with the wrong encoding.

    By the Unicode of the package `regex`, which is the same with every Python.
    """
    is_growing = any(ord(character) in growing for growing in _GROWING)
    return not is_growing and _BROKEN.fullmatch(character) is not None


@functools.cache
def assigned() -> str:
    """Returns every character of Unicode except private use and unassigned planes."""
    return "".join([chr(code) for codes in _ASSIGNED for code in codes])


@functools.cache
def classes_of(scripts: frozenset[str]) -> np.ndarray:
    """Returns the classes of all code points, uint16, for a language with these scripts."""
    table = _classes().copy()
    for script in scripts:
        _mark(table, _letters_of(script), OWN)
    return table


def scripts_of_letters(letters: str) -> dict[str, str]:
    """Returns the script of each of the letters that is in a script of today."""
    scripts = {}
    for script in _LIVING_SCRIPTS:
        if len(scripts) == len(letters):
            break
        scripts |= dict.fromkeys(
            regex.findall(rf"(?V1)[\p{{L}}&&\p{{sc={script}}}]", letters), script
        )
    return scripts


@functools.cache
def composing() -> frozenset[str]:
    """Returns the characters that NFC changes or may compose with the preceding one."""
    found = {each for each in assigned() if unicodedata.normalize("NFC", each) != each}
    found.update(map(chr, [*range(0x1161, 0x1176), *range(0x11A8, 0x11C3)]))  # of Hangul syllables
    for each in assigned():
        parts = unicodedata.decomposition(each).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            found.add(chr(int(parts[1], 16)))
    return frozenset(found)


@functools.cache
def mapping(replace: Callable[[str], str]) -> np.ndarray:
    """Returns a table of what `replace` makes of each code point, uint32; NOTHING for ""."""
    table = np.arange(NUM_CODES, dtype=np.uint32)
    for character in assigned():
        if (replacement := replace(character)) != character:
            table[ord(character)] = ord(replacement) if replacement else NOTHING
    table[10] = 10  # line feeds end lines
    return table


@functools.cache
def _classes() -> np.ndarray:
    table = np.full(NUM_CODES, BROKEN, np.uint16)
    for codes in (*_ASSIGNED, *_GROWING):
        table[codes.start : codes.stop] = 0
    _mark(table, _found(_BROKEN_CLASS), BROKEN)
    for codes in _GROWING:
        table[codes.start : codes.stop] = 0
    _mark(table, "".join([each for each in assigned() if normalized(each) != each]), CHANGED)
    _mark(table, "".join(filter(str.isdecimal, assigned())), DIGIT)
    _mark(table, "".join(composing()), COMPOSES)
    _mark(table, "".join(filter(unicodedata.combining, assigned())), MARK)
    _mark(table, "".join(filter(is_hidden, assigned())), HIDDEN)
    _mark(table, _found(r"[\p{L}--[\p{sc=Zyyy}\p{sc=Zinh}]]"), LETTER)
    _mark(table, _letters_of("Latn"), LATIN)
    for script in _DENSE_SCRIPTS:
        _mark(table, _letters_of(script), DENSE)
    _mark(table, "${%<&/@", MARKUP)
    table[10] = 0
    return table


def _mark(table: np.ndarray, characters: str, value: int) -> None:
    table[code_points(characters)] |= value


@functools.cache
def _letters_of(script: str) -> str:
    return _found(rf"[\p{{L}}&&\p{{sc={script}}}]")


def _found(characters: str) -> str:
    return "".join(regex.findall(rf"(?V1){characters}+", assigned()))
