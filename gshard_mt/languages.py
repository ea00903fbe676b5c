"""Languages: one code for each (ISO 639-1, else ISO 639-3), English names, locales."""
# SPDX-License-Identifier: Apache-2.0

import functools
import re
from collections import defaultdict
from collections.abc import Collection, Iterable

import iso639
import iso639.exceptions

from gshard_mt.errors import DataError
from gshard_mt.language_scripts import (
    all_scripts,
    default_scripts,
    known_scripts,
    members,
    script_code,
    script_of_modifier,
)

# A tag of BCP 47 (RFC 5646, section 2.1), with `_` read as `-`. Some write the region before the
# script (`az-AZ-Latn`).
_TAG = re.compile(
    r"""(?P<language>[a-z]{2,3})
    (?:-(?P<extended>[a-z]{3}))?
    (?:-(?P<script>[a-z]{4}))?
    (?:-(?P<region>[a-z]{2}|\d{3}))?
    (?:-(?P<late_script>[a-z]{4}))?
    (?P<variants>(?:-(?:[a-z\d]{5,8}|\d[a-z\d]{3}))*)
    (?:-[a-wyz\d](?:-[a-z\d]{2,8})+)*  # extensions
    (?:-x(?:-[a-z\d]{1,8})+)?  # private use""",
    re.VERBOSE,
)
# What POSIX puts behind a locale: `sr_RS.UTF-8@latin`.
_POSIX = re.compile(
    r"(?P<name>[^.@]+)(?:\.(?:utf|iso|koi|cp|euc|gb|big)[a-z\d-]*)?(?:@(?P<modifier>[a-z\d=;-]+))?"
)
_MAX_CHARACTERS = 100  # of a tag
# Tags that are older than BCP 47's rules, or that Microsoft, MediaWiki and Mozilla made up.
_IRREGULAR = {
    "art-lojban": "jbo",
    "bat-smg": "sgs",
    "cbk-zam": "cbk",
    "fiu-vro": "vro",
    "i-hak": "hak",
    "i-klingon": "tlh",
    "i-lux": "lb",
    "i-navajo": "nv",
    "ja-jp-mac": "ja",
    "map-bms": "jv",
    "no-bok": "nb",
    "no-nyn": "nn",
    "roa-rup": "rup",
    "sr-ec": "sr-cyrl",
    "sr-el": "sr-latn",
    "zh-chs": "zh-hans",
    "zh-cht": "zh-hant",
    "zh-classical": "lzh",
    "zh-guoyu": "cmn",
    "zh-hakka": "hak",
    "zh-min-nan": "nan",
    "zh-xiang": "hsn",
}

# The member that stands for a macrolanguage, where the macrolanguage's code is the usual one: the
# member that FLORES and NLLB have, otherwise CLDR's. Other members (`arz`, `ary`, `yue`, `nn`) are
# languages of their own.
_MEMBERS: dict[str, str] = {
    member: macro
    for member, _, macro in (
        pair.partition(":")
        for pair in (
            "als:sq arb:ar ayr:ay azj:az cls:sa cmn:zh cwd:cr dik:din ekk:et esk:ik fuv:ff gaz:om"
            " gug:gn ike:iu khk:mn kmr:ku knc:kr kng:kg kpv:kv lvs:lv npi:ne ojg:oj ory:or pbt:ps"
            " pes:fa plt:mg quy:qu src:sc swh:sw uzn:uz ydd:yi zsm:ms zyb:za"
        ).split()
    )
}
# Codes that ISO 639 gave up without a successor.
_RETIRED = {"bh": "bho", "bih": "bho", "eml": "egl", "mo": "ro", "mol": "ro", "sh": "hbs"}
# Codes of one language that both are in use: which one is meant depends on those that a run has.
_TWINS = {
    "bcc": "bal",
    "bcl": "bik",
    "bxr": "bua",
    "diq": "zza",
    "fil": "tl",
    "gom": "kok",
    "mhr": "chm",
    "nb": "no",
    "rmy": "rom",
}


def language_code(tag: str) -> str:
    """Returns `de` for `deu`, `de-AT` and `deu_Latn`; `sr_Latn` for `sr@latin`; `sw` for `swh`.

    The code is ISO 639-1 where there is one, else ISO 639-3, with a script only if the language is
    by default written in another. docs/data_format.md lists the tags that are read. Raises
    DataError for any other.
    """
    language, script = _read(tag)
    return language if _is_default(language, script) else f"{language}_{script}"


@functools.lru_cache(10_000)  # a reader asks for every pair
def plain_tag(tag: str) -> str:
    """Returns the code, with the script also where the tag names one of several: `sr_Cyrl`.

    This is what a corpus's text is cleaned by: it is in that script only.
    """
    language, script = _read(tag)
    if script is None or (script == "Hani" and _is_default(language, script)):
        return language
    scripted = f"{language}_{script}"
    is_only = _is_default(language, script) and scripts_of(language) <= scripts_of(scripted)
    return language if is_only else scripted


def is_language(tag: str) -> bool:
    """Tells whether a tag names a language."""
    return not isinstance(_parse(tag), str)


def merge_locales(tags: Iterable[str]) -> dict[str, str]:
    """Returns each locale tag's language, with a script only if the language occurs in two.

    `sr` and `sr-Latn` together give `sr` and `sr_Latn`; `sr-Latn` alone gives `sr`.
    """
    codes = {tag: language_code(tag) for tag in tags}
    found: dict[str, set[str]] = defaultdict(set)
    for code in codes.values():
        found[base_language(code)].add(code)
    return {
        tag: code if len(found[base_language(code)]) > 1 else base_language(code)
        for tag, code in codes.items()
    }


def match_languages(tags: Iterable[str], known: Collection[str]) -> dict[str, str]:
    """Returns for each tag the code of `known` that it means, else its own code.

    A run calls Serbian `sr` if it comes in one script only, whichever that is, and Bokmål `nb` or
    `no`. So a tag whose code isn't known means the only known code of its language, unless another
    tag claims it.
    """
    codes = {tag: language_code(tag) for tag in tags}
    claims: dict[str, set[str]] = defaultdict(set)
    for code in codes.values():
        claims[_twin(code)].add(code)
    return {
        tag: code
        if code in known or len(claims[_twin(code)]) > 1
        else find_language(code, known) or code
        for tag, code in codes.items()
    }


def find_language(tag: str, known: Collection[str]) -> str | None:
    """Returns the code of `known` that a tag means, None if there is none or no single one."""
    if not is_language(tag):
        return None
    code = language_code(tag)
    same = [each for each in known if _twin(each) == _twin(code)]
    return code if code in known else same[0] if len(same) == 1 else None


def base_language(tag: str) -> str:
    """Returns the code without script or region: `sr` for `sr_Latn`."""
    return _read(tag)[0]


def source_language(language_pair: str) -> str:
    """Returns `de` for the language pair `de-en`: English is the target of all."""
    return language_pair.removesuffix("-en")


def source_of_pair(pair: str) -> str | None:
    """Returns the code of the source in `de-en`, `deu_Latn-eng_Latn`; None if this is no pair."""
    cuts = [match.start() for match in re.finditer("-", pair)]
    for source, target in ((pair[:cut], pair[cut + 1 :]) for cut in cuts):
        if is_language(source) and is_language(target) and language_code(target) == "en":
            return language_code(source)
    return None


def english_name(code: str) -> str:
    """Returns `German` for `de`, `Serbian (Latn)` for `sr_Latn`."""
    language, _, script = language_code(code).partition("_")
    # Years and kinds as in "Modern Greek (1453-)" and "Nepali (macrolanguage)" are left out.
    name = re.sub(r"\s*\(.*\)", "", iso639.Lang(language).name)
    return f"{name} ({script})" if script else name


def code_of_name(name: str) -> str | None:
    """Returns `de` for `German`, the English name in ISO 639; None for any other text."""
    try:
        return _iso_639(iso639.Lang(name=name.strip().title()).pt3)
    except (iso639.exceptions.InvalidLanguageValue, iso639.exceptions.DeprecatedLanguageValue):
        return None


@functools.cache
def scripts_of(tag: str) -> frozenset[str]:
    """Returns the scripts that a language is written in, `{"Cyrl", "Latn"}` for `sr`.

    ISO 15924 codes as in Unicode's Script property: `Hani` for `zh`, with `Hira` and `Kana` for
    `ja`. A script in the tag is the only one. Empty if nothing is known about the language.
    """
    language, script = _read(tag)
    if not script:
        return all_scripts(language)
    only, default = members(script), default_scripts(language)
    return default if only < default else only


def _read(tag: str) -> tuple[str, str | None]:
    """Returns a tag's language and script, if it has one. Raises DataError."""
    found = _parse(tag)
    if isinstance(found, str):
        code = code_of_name(tag)
        hint = f"is not a code; did you mean {code}?" if code else found
        raise DataError(f"language {tag[:_MAX_CHARACTERS]!r} {hint}")
    return found


@functools.lru_cache(10_000)  # tags of a file may be anything
def _parse(tag: str) -> tuple[str, str | None] | str:
    """Returns a tag's language and script, or what is wrong with it."""
    not_a_code = "is not a code; accepted: ISO 639 codes like de, deu, pt-BR"
    posix = _POSIX.fullmatch(tag.lower()) if len(tag) <= _MAX_CHARACTERS else None
    if not posix:
        return not_a_code
    name = posix["name"].replace("_", "-")
    match = _TAG.fullmatch(_IRREGULAR.get(name, name))
    if not match:
        return not_a_code
    if match["region"] == "en":
        return "is a pair of languages; accepted: the code of one, like de"
    code, extended = match["language"], match["extended"]
    if extended:  # `zh-yue`: the second is a member of the first
        if code != "sgn" and _iso_639(code) != _macrolanguage(extended):
            return not_a_code
        code = extended
    script = (match["script"] or match["late_script"] or "").capitalize()
    hints = [posix["modifier"] or "", *match["variants"].split("-")]  # `sr@latin`, `sr_latin`
    script = script or next(filter(None, map(script_of_modifier, hints)), "")
    if script and script not in known_scripts():
        return f"has a script {script!r} that is not in ISO 15924; accepted: like sr_Latn"
    language = _iso_639(code)
    if not language:
        return "is not in ISO 639; accepted: codes like de, deu, pt-BR"
    return _MEMBERS.get(language, language), script_code(script) if script else None


def _iso_639(code: str) -> str | None:
    """Returns the shortest code of a language; None if ISO 639 has none."""
    code = _RETIRED.get(code, code)
    try:
        language = iso639.Lang(code)
    except iso639.exceptions.DeprecatedLanguageValue as error:
        return _iso_639(error.change_to) if error.change_to else None
    except iso639.exceptions.InvalidLanguageValue:
        return None
    # `und`, `mul`, `art` are no languages.
    is_none = language.pt5 == "art" or (language.pt3 and language.scope() == "Special")
    return None if is_none else language.pt1 or language.pt3 or language.pt2b or language.pt5


def _macrolanguage(code: str) -> str | None:
    try:
        macro = iso639.Lang(code).macro()
    except (iso639.exceptions.InvalidLanguageValue, iso639.exceptions.DeprecatedLanguageValue):
        return None
    return (macro.pt1 or macro.pt3) if macro else None


def _twin(code: str) -> str:
    """Returns one code for all codes and scripts of a language."""
    language = base_language(code)
    return _TWINS.get(language, language)


def _is_default(language: str, script: str | None) -> bool:
    return script is None or members(script) <= default_scripts(language)
