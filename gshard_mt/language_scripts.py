"""Scripts: those that languages are written in, by ISO 15924 codes, from CLDR."""
# SPDX-License-Identifier: Apache-2.0

import functools
from collections import defaultdict

from babel.core import get_global

_MODIFIERS = {
    "latin": "Latn",
    "ijekavianlatin": "Latn",
    "iqtelif": "Latn",
    "cyrillic": "Cyrl",
    "arabic": "Arab",
    "devanagari": "Deva",
    "shaw": "Shaw",
}
# CLDR's names for languages written in several scripts at once.
_SCRIPTS = {
    "Hanb": {"Hani", "Bopo"},
    "Hrkt": {"Hira", "Kana"},
    "Jpan": {"Hira", "Kana", "Hani"},
    "Kore": {"Hang", "Hani"},
}
# Forms of a script that Unicode encodes with it: they never make two languages.
_ONE_SCRIPT = {
    "Aran": "Arab",
    "Cyrs": "Cyrl",
    "Hans": "Hani",
    "Hant": "Hani",
    "Latf": "Latn",
    "Latg": "Latn",
    "Syre": "Syrc",
    "Syrj": "Syrc",
    "Syrn": "Syrc",
}
_NO_SCRIPT = ("Zinh", "Zsym", "Zxxx", "Zyyy", "Zzzz")
# Where corpora mean another script than CLDR by a bare code.
_DEFAULT_SCRIPTS = {"crh": "Latn"}
# Scripts of languages that CLDR lacks, and scripts in use that CLDR has no region for.
_MORE_SCRIPTS = {
    "ace": {"Arab"},
    "arq": {"Latn"},
    "ber": {"Arab", "Latn", "Tfng"},
    "bjn": {"Arab"},
    "bm": {"Nkoo"},
    "bs": {"Cyrl"},
    "cdo": {"Latn"},
    "cr": {"Latn"},
    "crh": {"Latn"},
    "gag": {"Cyrl"},
    "grc": {"Grek"},
    "hak": {"Latn"},
    "hbs": {"Cyrl", "Latn"},
    "hoc": {"Latn"},
    "iu": {"Latn"},
    "jv": {"Java"},
    "kaa": {"Latn"},
    "kk": {"Latn"},
    "kr": {"Arab"},
    "ks": {"Deva"},
    "lad": {"Latn"},
    "lfn": {"Cyrl"},
    "mni": {"Latn", "Mtei"},
    "nah": {"Latn"},
    "nan": {"Latn"},
    "nst": {"Latn"},
    "oj": {"Latn"},
    "ota": {"Latn"},
    "rhg": {"Arab", "Latn"},
    "rom": {"Cyrl"},
    "sat": {"Beng", "Deva", "Latn", "Orya"},
    "shi": {"Arab", "Latn"},
    "taq": {"Tfng"},
    "tk": {"Cyrl"},
    "tt": {"Latn"},
    "tzm": {"Tfng"},
    "ug": {"Latn"},
    "vai": {"Latn"},
    "zgh": {"Latn"},
}


def script_of_modifier(modifier: str) -> str | None:
    """Returns `Latn` for `latin` in `sr@latin`; None if it isn't about a script."""
    modifier = modifier.lower()
    script = modifier.capitalize()
    return _MODIFIERS.get(modifier, script if script in known_scripts() else None)


def script_code(script: str) -> str | None:
    """Returns the script that a form belongs to: `Arab` for `Aran`. None for no script: `Zxxx`."""
    return None if script in _NO_SCRIPT else _ONE_SCRIPT.get(script, script)


def members(script: str) -> frozenset[str]:
    """Returns the scripts that one of CLDR's stands for: Hiragana, Katakana and Han for `Jpan`."""
    return frozenset(_SCRIPTS.get(script) or {_ONE_SCRIPT.get(script, script)})


def default_scripts(language: str) -> frozenset[str]:
    """Returns what a language is written in unless its tag has another script."""
    if language in _DEFAULT_SCRIPTS:
        return members(_DEFAULT_SCRIPTS[language])
    likely = get_global("likely_subtags").get(_cldr_code(language))
    # Nearly all languages that CLDR lacks are written in Latin.
    return members(likely.split("_")[1] if likely else "Latn")


def all_scripts(language: str) -> frozenset[str]:
    """Returns every script that a language is known to be written in; empty if none is known."""
    likely = map(members, _likely_scripts()[_cldr_code(language)])
    return frozenset(_MORE_SCRIPTS.get(language, ())).union(*likely)


@functools.cache
def known_scripts() -> frozenset[str]:
    """Returns the scripts of CLDR, with forms and mixtures of them and those of ISO for none."""
    likely = set().union(*_likely_scripts().values())
    return frozenset({*likely, *_SCRIPTS, *_ONE_SCRIPT, *_NO_SCRIPT, "Piqd"})


@functools.cache
def _likely_scripts() -> dict[str, set[str]]:
    """Returns language -> all scripts for which CLDR has a likely region or language."""
    scripts: dict[str, set[str]] = defaultdict(set)
    for tag, likely in get_global("likely_subtags").items():
        scripts[tag.split("_")[0]].add(likely.split("_")[1])
    return scripts


def _cldr_code(language: str) -> str:
    """Returns the code by which CLDR knows a language: it has `lah` for `pnb`."""
    if language in get_global("likely_subtags"):
        return language
    return get_global("language_aliases").get(language, language).split("_")[0]
