"""Catalogues give the pairs that they hold, wherever they lie and whatever forms a plural has."""
# SPDX-License-Identifier: Apache-2.0

import pathlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gshard_mt.data.corpora.entry import Pair
from gshard_mt.data.corpora.mo import parse_mo
from tests.data.corpora import samples
from tests.data.corpora.samples import GERMAN, read


def _catalogues(folder: pathlib.Path) -> pathlib.Path:
    messages = folder / "pkg" / "locale" / "de" / "LC_MESSAGES"
    messages.mkdir(parents=True)
    (messages / "a.po").write_bytes(samples.po())
    (messages / "a.mo").write_bytes(samples.mo({b"compiled": b"von a.po"}))
    (messages / "b.mo").write_bytes(samples.mo({b"ctx\x04only": b"nur"}))
    for locale in ("en_GB", "fr"):
        other = folder / "pkg" / "locale" / locale / "LC_MESSAGES"
        other.mkdir(parents=True)
        (other / "a.po").write_bytes(samples.po('msgid "house"\nmsgstr "maison"\n'))
    return folder / "pkg"


_IN_FOLDER = [*GERMAN, Pair("de", "nur", "only")]


@pytest.mark.parametrize("location", ["pkg", "pkg/locale/*/LC_MESSAGES/*", "pkg/**/*.?o"])
def test_catalogues_of_a_folder_or_glob_are_read(tmp_path, location):
    _catalogues(tmp_path)
    assert read(tmp_path, "gettext", location) == _IN_FOLDER
    every = read(tmp_path, "gettext", location, ["*"])
    assert every == [*_IN_FOLDER, Pair("fr", "maison", "house")]


def test_catalogues_of_a_wheel_are_read_without_unpacking(tmp_path):
    folder = _catalogues(tmp_path / "in")
    members = {
        str(path.relative_to(folder.parent)): path.read_bytes()
        for path in sorted(folder.rglob("*.?o"))
    }
    (tmp_path / "a.whl").write_bytes(samples.archive(members))
    before = sorted(tmp_path.rglob("*"))
    assert read(tmp_path, "gettext", "a.whl") == _IN_FOLDER
    assert sorted(tmp_path.rglob("*")) == before


def test_catalogues_of_an_installed_package_are_found(tmp_path, monkeypatch):
    folder = _catalogues(tmp_path / "site")
    info = tmp_path / "site" / "lamp-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lamp\nVersion: 1.0\n")
    names = [str(path.relative_to(folder.parent)) for path in sorted(folder.rglob("*.?o"))]
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in names))
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert read(tmp_path, "gettext", "lamp") == _IN_FOLDER


@pytest.mark.parametrize(
    ("name", "header", "languages", "tag"),
    [
        ("sr@latin/LC_MESSAGES/a.po", "", ["*"], "sr-Latn"),
        ("pt_BR.UTF-8/LC_MESSAGES/a.po", '"Language: de\\n"', ["pt"], "pt_BR"),
        ("ui.po", '"Language: ca@valencia\\n"', ["*"], "ca"),
        ("po/gl.po", "", ["*"], "gl"),
        ("translated.po", "", ["de"], "de"),
        ("uz@Cyrl/LC_MESSAGES/a.po", "", ["uz"], "uz-Cyrl"),
        ("ui.po", '"Language: sr@ijekavianlatin\\n"', ["sr_Latn"], "sr-Latn"),
        ("ui.po", '"Language: German\\n"', ["de"], "de"),
        ("ui.po", '"Language: ga\\n"', ["*"], "ga"),
        ("po/nl.po", '"Language: LANGUAGE\\n"', ["*"], "nl"),
        ("pt_BR/gui.po", "", ["*"], "pt_BR"),
        ("src/hsb.po", "", ["*"], "hsb"),
        ("po/messages.de.po", "", ["*"], "de"),
        ("po/my-plugin-pt_BR.po", "", ["*"], "pt_BR"),
        ("po/app.zh-Hant.po", "", ["*"], "zh-Hant"),
        ("de/messages.po", "", ["*"], "de"),
        ("po/sign-in.po", "", ["de"], "de"),
        ("po/app.min.po", "", ["de"], "de"),
    ],
)
def test_a_catalogue_finds_its_language(tmp_path, name, header, languages, tag):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(samples.po(header=header))
    found = read(tmp_path, "gettext", name, languages)
    assert [pair.language for pair in found] == [tag] * 3


def test_messages_that_are_no_translation_are_left_out(tmp_path):
    body = """
#, fuzzy
msgid "guess"
msgstr "geraten"

msgid "empty"
msgstr ""

#~ msgid "old"
#~ msgstr "alt"

msgctxt "a month"
msgid "May"
msgstr "Mai"

msgid ""
"long "
"message"
msgstr ""
"lange\\n"
"Nachricht"
"""
    (tmp_path / "de.po").write_bytes(samples.po(body))
    assert read(tmp_path, "gettext", "de.po") == [
        Pair("de", "Mai", "May"),
        Pair("de", "lange\nNachricht", "long message"),
    ]


_RULES = {
    "de": ("nplurals=2; plural=(n != 1);", ["ein", "viele"], ["ein", "viele"]),
    "ru": (
        "nplurals=3; plural=(n%10==1 && n%100!=11 ? 0 : n%10>=2 && n%10<=4 && "
        "(n%100<10 || n%100>=20) ? 1 : 2);",
        ["один", "три", "пять"],
        ["один", "пять"],
    ),
    "ar": (
        "nplurals=6; plural=n==0 ? 0 : n==1 ? 1 : n==2 ? 2 : n%100>=3 && n%100<=10 ? 3 : "
        "n%100>=11 ? 4 : 5;",
        ["zero", "one", "two", "few", "many", "other"],
        ["one", "few"],
    ),
    "ja": ("nplurals=1; plural=0;", ["全部"], [None, "全部"]),
    "fr": ("", ["un", "plusieurs"], ["un", "plusieurs"]),  # gettext's rule where there is none
}


@pytest.mark.parametrize("language", _RULES)
@pytest.mark.parametrize("suffix", ["po", "mo"])
def test_one_and_many_go_with_the_forms_of_one_and_five(tmp_path, language, suffix):
    rule, forms, expected = _RULES[language]
    header = f"Plural-Forms: {rule}"
    if suffix == "po":
        lines = [f'msgstr[{index}] "{form}"' for index, form in enumerate(forms)]
        body = 'msgid "one"\nmsgid_plural "many"\n' + "\n".join(lines) + "\n"
        content = samples.po(body, f'"{header}\\n"' if rule else "")
    else:
        messages = {b"one\0many": "\0".join(forms).encode()}
        content = samples.mo(messages)
        if rule:
            head = b"Content-Type: text/plain; charset=UTF-8\n" + header.encode()
            content = samples.mo({b"": head, **messages})
    (tmp_path / f"{language}.{suffix}").write_bytes(content)
    found = read(tmp_path, "gettext", f"{language}.{suffix}", [language])
    pairs = zip(expected, ("one", "many"), strict=True)
    assert found == [Pair(language, form, english) for form, english in pairs if form]


@given(st.dictionaries(st.text(min_size=1), st.text(min_size=1), max_size=20))
@settings(max_examples=50, deadline=None)
def test_mo_files_give_what_was_compiled(messages):
    texts = {key: value for key, value in messages.items() if not set("\0\x04") & set(key + value)}
    content = samples.mo({key.encode(): value.encode() for key, value in texts.items()})
    found = [(message.singular, message.forms[0]) for message in parse_mo(content)][1:]
    assert found == list(texts.items())
