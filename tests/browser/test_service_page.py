"""The service's page in a browser: what people type is translated and shown as it is."""
# SPDX-License-Identifier: Apache-2.0

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, expect

from gshard_mt.decode.translation import Translation
from gshard_mt.serve.batcher import Item
from tests.browser.tab import Tab, style
from tests.serve.serving import CURVE, Served, Translator, serving

pytestmark = pytest.mark.browser

FAILED = "Failed to load resource: "  # what Chromium writes to the console
HOSTILE = {
    "html": '</output></textarea><b>bold</b><img src="x" onerror="alert(1)">',
    "script": "<script>document.title = 'taken'; alert(1)</script>",
    "entities": "&lt;script&gt; &amp; &#60; &nbsp;",
    "right-to-left": "שלום \u202eabc\u202c عالم",
    "long": "x" * 4999,
    "unusual": "a\tb\u200bc\u2028d e" + "\u0301" * 50 + " 🙂\ufeff",
}


def echo(items: list[Item]) -> list[list[Translation]]:
    return [[Translation(item.text, 0.0)] for item in items]


@pytest.fixture
def translator() -> Translator:
    return Translator()


@pytest.fixture
def served(translator) -> Iterator[Served]:
    with serving(translator) as served:
        yield served


@pytest.fixture
def ready(tab, served) -> Tab:
    """The page, once it knows the languages."""
    visit(tab, served)
    return tab


def visit(tab: Tab, served: Served, host: str = "127.0.0.1") -> None:
    tab.open(f"http://{host}:{served.port}/")
    expect(tab.page.get_by_text("3 languages, step 7 of training")).to_be_visible()
    expect(tab.page.get_by_label("Language").locator("option")).to_have_count(4)


def source(tab: Tab) -> Locator:
    return tab.page.get_by_label("Text, one sentence per line")


def english(tab: Tab) -> Locator:
    return tab.page.get_by_role("status", name="English")


def said(tab: Tab) -> Locator:
    return tab.page.locator("p[role=status]")


def button(tab: Tab, name: str) -> Locator:
    return tab.page.get_by_role("button", name=name)


def translate(tab: Tab, text: str) -> str:
    """Translates a text and returns exactly what is then shown."""
    source(tab).fill(text)
    button(tab, "Translate").click()
    expect(said(tab)).to_contain_text("seconds")
    return english(tab).evaluate("each => each.textContent")


def test_every_line_is_translated(ready):
    assert translate(ready, "eins\n\nzwei") == "snie\n\niewz"


def test_the_chosen_language_is_asked_for(ready):
    ready.page.get_by_label("Language").select_option("German (de)")
    with ready.page.expect_request("**/translate") as found:
        assert translate(ready, "ab") == "ba"
    assert json.loads(found.value.post_data or "") == {
        **{"texts": ["ab"], "source_language": "de"},
        "confidence": True,
    }


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_text_is_shown_as_text(tab, kind):
    with serving(echo) as served:
        visit(tab, served)
        assert translate(tab, HOSTILE[kind]) == HOSTILE[kind]
        assert english(tab).evaluate("each => each.childElementCount") == 0
        assert tab.page.title() == "gshard-mt: translate into English"
        assert tab.page.locator("script").count() == 1
        expected = "rtl" if kind == "right-to-left" else "ltr"
        assert style(source(tab), "direction") == expected


def test_a_keyboard_is_enough(ready):
    keyboard = ready.page.keyboard
    keyboard.type("ab")  # the page begins with the focus there
    keyboard.press("Control+Enter")
    expect(english(ready)).to_have_text("ba")
    keyboard.press("Tab")
    expect(button(ready, "Copy")).to_be_focused()
    keyboard.press("Enter")
    expect(said(ready)).to_have_text("Copied.")
    keyboard.press("Tab")
    expect(ready.page.get_by_label("Language")).to_be_focused()
    keyboard.press("Tab")
    expect(ready.page.get_by_label("Alternatives")).to_be_focused()
    keyboard.press("Tab")
    expect(button(ready, "Translate")).to_be_focused()
    assert style(button(ready, "Translate"), "outlineStyle") == "solid"
    keyboard.press("Tab")
    expect(ready.page.locator("summary")).to_be_focused()


# Browsers have the clipboard's interface for pages of this machine and over https only.
@pytest.mark.parametrize("host", ["127.0.0.1", "elsewhere.test"])
def test_the_translation_is_copied(tab, served, host):
    visit(tab, served, host)
    assert tab.page.evaluate("isSecureContext") == (host == "127.0.0.1")
    expect(button(tab, "Copy")).to_be_disabled()
    shown = translate(tab, f"eins\n\n{tab.page.viewport_size} <b>  {host}")
    button(tab, "Copy").click()
    expect(said(tab)).to_have_text("Copied.")
    source(tab).fill("")
    source(tab).press("Control+V")
    expect(source(tab)).to_have_value(shown)


def test_confidence_and_alternatives_are_shown_line_by_line(ready):
    items = ready.page.locator("#lines > li")
    translate(ready, "a\n\nbcd")
    sure, unsure = (f"{CURVE.confidence(mean):.0%}" for mean in (-1, -3))
    summary = ready.page.get_by_text(f"Confidence {unsure} to {sure}", exact=True)
    expect(items.first).to_be_hidden()
    summary.click()
    expect(items).to_have_text([f"a ({sure})", f"dcb ({unsure})"])
    assert items.evaluate_all("each => each.map(({ value }) => value)") == [1, 3]
    alternatives = ready.page.get_by_label("Alternatives")
    expect(alternatives.locator("option")).to_have_text(["none", "1", "2", "3"])
    alternatives.select_option(label="2")
    assert translate(ready, "<b>ab") == "ba>b<"
    expect(items.first).to_be_visible()
    expect(items.first.get_by_role("listitem")).to_have_text(["ba>b< 1", "ba>b< 2"])


def test_without_calibration_and_beams_only_the_translation_is_shown(tab, translator):
    with serving(translator, calibration=None) as served:
        visit(tab, served)
        assert translate(tab, "ab") == "ba"
        expect(tab.page.locator("details")).to_be_hidden()
        tab.page.get_by_label("Alternatives").select_option(label="1")
        translate(tab, "cd")
        expect(tab.page.locator("summary")).to_have_text("Alternatives")
        expect(tab.page.get_by_text("Confidence is")).to_be_hidden()


def test_truncated_lines_are_named(ready):
    translate(ready, "a\nendless b")
    expect(said(ready)).to_contain_text("only the beginning is translated: line 2")


def test_without_text_nothing_is_asked(ready):
    button(ready, "Translate").click()
    expect(said(ready)).to_have_text("Enter some text first.")
    assert not [url for url in ready.requests if url.endswith("translate")]


def test_while_it_translates_the_page_says_so(ready, translator):
    translator.hold()
    source(ready).fill("ab")
    button(ready, "Translate").click()
    expect(said(ready)).to_have_text("Translating ...")
    expect(button(ready, "Translate")).to_be_disabled()
    translator.go_on()
    expect(english(ready)).to_have_text("ba")
    expect(button(ready, "Translate")).to_be_enabled()


def test_a_failure_is_told_and_the_next_text_is_translated(ready):
    translate(ready, "ab")
    source(ready).fill("boom")
    button(ready, "Translate").click()
    expect(said(ready)).to_contain_text("translation failed")
    expect(english(ready)).to_be_empty()
    expect(button(ready, "Copy")).to_be_disabled()
    assert style(said(ready), "fontWeight") == "600"
    ready.expected_errors.append(
        "Failed to load resource: the server responded with a status of 500"
    )
    assert translate(ready, "cd") == "dc"


def test_a_service_that_starts_or_is_gone_is_told(tab, translator):
    translator.hold()
    with serving(translator, awaits_ready=False) as served:
        tab.open(f"http://127.0.0.1:{served.port}/")
        expect(tab.page.get_by_text("warming up ...")).to_be_visible()
        translator.go_on()
        expect(tab.page.get_by_text("step 7 of training")).not_to_contain_text("warming up")
    source(tab).fill("ab")
    button(tab, "Translate").click()
    expect(said(tab)).to_have_text("The service is not responding.")
    tab.expected_errors += [error for error in tab.errors if "503" in error]
    tab.expected_errors.append(f"{FAILED}net::ERR_CONNECTION_REFUSED")
