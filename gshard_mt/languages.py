"""Languages: one code for each (ISO 639-1, else ISO 639-3), English names, scripts, locales."""
# SPDX-License-Identifier: Apache-2.0

import functools
import re
from collections import defaultdict
from collections.abc import Iterable

import iso639
import iso639.exceptions
from babel.core import get_global

from gshard_mt.errors import DataError

_TAG = re.compile(
    r"(?P<language>[A-Za-z]{2,3})(?:[-_](?P<script>[A-Za-z]{4}))?(?:[-_](?P<region>[A-Za-z]{2}|\d{3}))?"
)
# Simplified and Traditional Han are one script: they never make two languages.
_ONE_SCRIPT = {"Hans": "Hani", "Hant": "Hani"}
# CLDR's names for languages written in several scripts at once.
_SCRIPTS = {
    "Hans": {"Hani"},
    "Hant": {"Hani"},
    "Hanb": {"Hani", "Bopo"},
    "Jpan": {"Hira", "Kana", "Hani"},
    "Kore": {"Hang", "Hani"},
}
# Languages that CLDR lacks, or has only with the script of inscriptions and prayer books.
_MORE_SCRIPTS = {
    "arq": {"Latn"},
    "grc": {"Grek"},
    "hoc": {"Latn"},
    "jv": {"Java"},
    "kk": {"Latn"},
    "lad": {"Latn"},
    "lfn": {"Cyrl"},
    "mhr": {"Cyrl"},
    "nst": {"Latn"},
    "ota": {"Latn"},
    "tt": {"Latn"},
    "ug": {"Latn"},
}


def language_code(tag: str) -> str:
    """Returns `de` for `deu`, `pt` for `pt-BR`, `sr_Latn` for `sr-Latn`, `zh` for `zh-Hant`.

    Raises DataError if the tag is not an ISO 639 language.
    """
    language, script = _parse(tag)
    return f"{language}_{script}" if script and script != "Hani" else language


def merge_locales(tags: Iterable[str]) -> dict[str, str]:
    """Returns each locale tag's language, with a script only if the language occurs in two.

    `sr` and `sr-Latn` together give `sr` and `sr_Latn`; `sr-Latn` alone gives `sr`.
    """
    parsed = {tag: _parse(tag) for tag in tags}
    scripts: dict[str, set[str | None]] = defaultdict(set)
    for language, script in parsed.values():
        scripts[language].add(None if script == "Hani" else script)
    return {
        tag: language_code(tag) if len(scripts[language]) > 1 else language
        for tag, (language, _) in parsed.items()
    }


def base_language(tag: str) -> str:
    """Returns the code without script or region: `sr` for `sr_Latn`."""
    return _parse(tag)[0]


def source_language(language_pair: str) -> str:
    """Returns `de` for the language pair `de-en`: English is the target of all."""
    return language_pair.removesuffix("-en")


def english_name(code: str) -> str:
    """Returns `German` for `de`, `Serbian (Latn)` for `sr_Latn`."""
    language, script = _parse(code)
    # Years and kinds as in "Modern Greek (1453-)" and "Nepali (macrolanguage)" are left out.
    name = re.sub(r"\s*\(.*\)", "", iso639.Lang(language).name)
    return f"{name} ({script})" if script and script != "Hani" else name


@functools.cache
def scripts_of(tag: str) -> frozenset[str]:
    """Returns the scripts that a language is written in, `{"Cyrl", "Latn"}` for `sr`.

    ISO 15924 codes as in Unicode's Script property: `Hani` for `zh`, with `Hira` and `Kana` for
    `ja`. A script in the tag is the only one. Empty if nothing is known about the language.
    """
    language, script = _parse(tag)
    if script:
        return frozenset(_SCRIPTS.get(script, {script}))
    scripts = set(_MORE_SCRIPTS.get(language, ()))
    for likely in _likely_scripts()[language]:
        scripts |= _SCRIPTS.get(likely, {likely})
    return frozenset(scripts)


@functools.cache
def _likely_scripts() -> dict[str, set[str]]:
    """Returns language -> all scripts for which CLDR has a likely region or language."""
    scripts: dict[str, set[str]] = defaultdict(set)
    for tag, likely in get_global("likely_subtags").items():
        scripts[tag.split("_")[0]].add(likely.split("_")[1])
    return scripts


def _parse(tag: str) -> tuple[str, str | None]:
    match = _TAG.fullmatch(tag)
    if not match:
        raise DataError(
            f"language {tag!r} is not a code; accepted: ISO 639 codes like de, deu, pt-BR"
        )
    script = match["script"].capitalize() if match["script"] else None
    return _iso_639(match["language"].lower(), tag), _ONE_SCRIPT.get(script or "", script)


def _iso_639(code: str, tag: str) -> str:
    try:
        language = iso639.Lang(code)
    except iso639.exceptions.DeprecatedLanguageValue as error:
        if not error.change_to:
            raise DataError(
                f"language {tag!r} is no longer in ISO 639; use a current code"
            ) from None
        return _iso_639(error.change_to, tag)
    except iso639.exceptions.InvalidLanguageValue:
        raise DataError(
            f"language {tag!r} is not in ISO 639; accepted: codes like de, deu, pt-BR"
        ) from None
    return language.pt1 or language.pt3 or language.pt2b or language.pt5
