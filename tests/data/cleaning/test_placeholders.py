"""Placeholders and addresses: what must be the same on both sides and holds no words."""
# SPDX-License-Identifier: Apache-2.0

import pytest

from gshard_mt.config.records import CleaningConfig
from gshard_mt.data.cleaning.clean import REASONS, clean
from gshard_mt.data.cleaning.placeholders import (
    comparable_placeholders,
    placeholders,
    without_placeholders,
)

URL = "https://example.org/help"


def reason_of(source: str, english: str, language: str = "de") -> str | None:
    number = clean([source], [english], language, CleaningConfig()).reason[0]
    return REASONS[number - 1] if number else None


@pytest.mark.parametrize(
    "around",
    [
        "{}.", "{},", "{};", "{}:", "{}!", "{}?", "{}...", "({})", "[{}]", "({}).", '"{}"', "'{}'",
        "„{}“", "«{}»", "<{}>", "**{}**", "*{}*", "_{}_", "`{}`", "{}…", "{}”.", "‹{}›", "{}’",
        "{}。", "{}，", "（{}）", "「{}」", "【{}】", "{}、", "请访问{}了解更多信息", "{}を見る",
        "더 보기: {}에서", "ดูที่{}ครับ", "{}|", "{}' de", "{}'nden", "x={}", "{}~", "[text]({})",
        "{}׃", "{}؟", "{}،", "{}।", "{}։", "{}።", "{}၊", "{}\u200b", "{}\u00a0more", "{}\u3000",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "url",
    [
        URL,
        "http://example.org",
        "https://example.org/a/b.html?x=1&y=2#top",
        "https://de.wikipedia.org/wiki/Rust_(Sprache)",
        "https://example.org/~me/x_y-z/",
        "https://user@example.org:8080/a%20b",
    ],
)
def test_an_address_ends_before_what_stands_behind_it(around, url):
    assert placeholders(around.format(url)) == {url}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("https://de.wikipedia.org/wiki/Größe.", {"https://de.wikipedia.org/wiki/Größe"}),
        ("(https://ru.wikipedia.org/wiki/Москва)", {"https://ru.wikipedia.org/wiki/Москва"}),
        ("a https://a.org/x, https://b.org/y.", {"https://a.org/x", "https://b.org/y"}),
        ("https://a.org/((x))", {"https://a.org/"}),
        ("https:// nothing", set()),
        ("Mail max.m+x@sub.example.org, now", {"max.m+x@sub.example.org"}),
        ("请联系max@example.org。", {"max@example.org"}),
        ("<max@example.org>", {"max@example.org"}),
        ("a@b or @max or x@", set()),
        ("<b>fett</b>", {"<b>", "</b>"}),
    ],
)
def test_addresses_are_found_in_text(text, found):
    assert placeholders(text) == found


@pytest.mark.parametrize(
    ("source", "english"),
    [
        (f"Siehe {URL}, wenn etwas fehlt.", f"If anything is missing, see {URL}"),
        (f"Siehe {URL}/ dort.", f"See {URL} there."),
        (f"Mehr (<{URL}>) im Netz.", f"More on the web: {URL}."),
        ("Schreib an Max@Example.org!", "Write to max@example.org."),
        ("Datei %s", "File %1$s"),
        ("%2$s von %1$s", "%s by %s"),
        ("%i Dateien", "%d files"),
        ("%'d Dateien", "%d files"),
        ("%Id Dateien", "%d files"),
        ("%5.1f MB", "%.2f MB"),
        ("%ld Bytes", "%d bytes"),
        ("{ name } lacht", "{name} laughs"),
        ("{{name}} lacht", "{{ name }} laughs"),
        ("Am {day, date, short}", "On {day, date, long}"),
        ("{n}個のファイル", "{n, plural, one {# file} other {# files}}"),
        (
            "{n, plural, one {# plik} few {# pliki} many {# plików} other {# pliku}}",
            "{n, plural, =0 {no files} one {# file} other {# files}}",
        ),
        (
            "{who, select, f {{name} hat ihr Bild} other {{name} hat sein Bild}}",
            "{who, select, other {{name} has a picture}}",
        ),
        (
            "{n, plural, one {{m, plural, one {ein {x}} other {# {x}}}} other {viele {x}}}",
            "{n, plural, one {{m, plural, one {a {x}} other {# {x}}}} other {many {x}}}",
        ),
        ("20%-i allahindlus", "20% off"),
        ("50 %-s kedvezmény", "A 50 % discount"),
        ("50%-s kedvezmény", "50% discount"),
        ("%50i bat", "50% of it"),
        ("100%% sicher", "100% sure"),
        ("Fertig: 100%.", "Done: 100%."),
    ],
)
def test_right_pairs_are_kept(source, english):
    assert comparable_placeholders(source) == comparable_placeholders(english)


@pytest.mark.parametrize(
    ("source", "english"),
    [
        (f"Siehe {URL}.", "See https://example.org/other."),
        (f"Siehe {URL}.", "See there."),
        ("An max@example.org", "To erika@example.org"),
        ("Datei %s", "File %d"),
        ("Datei %1$s", "File"),
        ("{n, plural, other {# Dateien}}", "{m, plural, other {# files}}"),
        ("{n, plural, other {# Dateien in {x}}}", "{n, plural, other {# files}}"),
        ("{n, plural, one {# Datei}", "{n, plural, one {# file} other {# files}}"),
        ("%<PRIu64> Bytes", "%<PRIu32> bytes"),
        ("${name}", "{name}"),
    ],
)
def test_other_placeholders_differ(source, english):
    assert reason_of(source, english) == "placeholders"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Schreib an max@beispiel.example jetzt", "Schreib an jetzt"),
        ("Siehe www.beispiel.de/hilfe.", "Siehe"),
        ("Siehe beispiel.com oder beispiel.de/hilfe, gern", "Siehe oder gern"),
        ("Folge @beispielnutzer jetzt", "Folge jetzt"),
        ("请访问https://example.org/help了解", "请访问 了解"),
        ("Das Ende.Es geht los, z.B. heute", "Das Ende.Es geht los, z.B. heute"),
        ("{n, plural, one {# Datei} other {# Dateien}} neu", "# Datei # Dateien neu"),
    ],
)
def test_words_are_left_when_names_and_addresses_are_not(text, left):
    assert " ".join(without_placeholders(text).split()) == left


@pytest.mark.parametrize(
    ("source", "english", "language"),
    [
        ("E-Mail an erika@beispiel.example senden", "Send to erika@beispiel.example", "de"),
        ("Correo: ventas@example.com", "E-mail: ventas@example.com", "es"),
        ("Infos: www.the-best-english-website-of-all.org", "See www.the-best.org", "de"),
        ("Infos: the-best-english-website.com/about/us", "See the-best.com/about", "de"),
        ("Folge @the_best_english_newspaper", "Follow @the_best_english_newspaper", "de"),
        (
            "Почта: the.best.english.mail@example.com",
            "Mail: the.best.english.mail@example.com",
            "ru",
        ),
        ("Σελίδα: www.the-best-english-website.gr", "Page: www.the-best-english-website.gr", "el"),
    ],
)
def test_addresses_count_nowhere_in_identification(source, english, language):
    assert reason_of(source, english, language) is None


@pytest.mark.parametrize(
    "text, num_placeholders",
    [
        ("https://" + "(" * 1_000_000, 0),
        ("https://" + "." * 1_000_000, 0),
        ("https://" + "(.)" * 300_000 + "!", 1),
        ("a" * 1_000_000 + "@", 0),
        ("a@" + "b." * 500_000, 0),
        ("www." + "a-" * 500_000, 0),
        ("{n, plural, one {" * 60_000, 0),
        ("{n,plural,a{" * 60_000 + "}}" * 60_000, 2),
        ("%" * 1_000_000, 0),
        ("<" * 1_000_000, 0),
    ],
)
def test_hostile_text_is_searched_once(text, num_placeholders):
    """A search that takes the square of a million steps would not end."""
    assert len(comparable_placeholders(text)) == num_placeholders
    assert (without_placeholders(text) == text) == (num_placeholders == 0)
