"""The pages that commands write, opened as files in a browser."""
# SPDX-License-Identifier: Apache-2.0

import pathlib

import pytest
from playwright.sync_api import expect

from gshard_mt.evaluate import comparison_page
from gshard_mt.evaluate import report as reports
from gshard_mt.evaluate.comparison import compare_runs
from gshard_mt.evaluate.folder import read_evaluation
from gshard_mt.evaluate.samples import Samples, ScoredSentence
from tests.browser.tab import Tab, style
from tests.evaluate.made_evaluations import REFERENCES, leave, worsen
from tests.evaluate.test_report import EVIL, SAMPLES, make_report

pytestmark = pytest.mark.browser

LONG = "x" * 5000
POOR = {pair: worsen(lines, 6) for pair, lines in REFERENCES.items()}


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> pathlib.Path:
    samples = {**SAMPLES, "fr-en": Samples((ScoredSentence(LONG, LONG, EVIL, 1.0),), ())}
    made = make_report(samples=samples)._replace(name=f"my <b>run</b> {LONG[:200]}")
    return reports.write(made, tmp_path_factory.mktemp("evaluation"))


@pytest.fixture(scope="module")
def comparison(tmp_path_factory) -> pathlib.Path:
    home = tmp_path_factory.mktemp("runs")
    folders = [leave(home / "one", POOR), leave(home / "two", REFERENCES, routes=True)]
    names = [EVIL, LONG[:300]]
    read = [read_evaluation(folder, name) for folder, name in zip(folders, names, strict=True)]
    return comparison_page.write(compare_runs(read), home / "comparison")


def open_all(tab: Tab, path: pathlib.Path) -> None:
    tab.open(path.as_uri())
    for summary in tab.page.locator("summary").all():
        summary.click()


def column(tab: Tab, number: int) -> list[str]:
    """Returns the text of a column of the first table."""
    cells = tab.page.locator("table").first.locator(f"tbody td:nth-child({number})")
    return cells.all_text_contents()


def test_sentences_are_shown_as_text_in_their_direction(tab, report):
    open_all(tab, report)
    expect(tab.page.get_by_text(EVIL, exact=True)).to_have_count(3)
    assert tab.page.locator("script").count() == 1
    assert not tab.page.locator("img:not([src^='data:image/svg'])").count()
    hebrew = tab.page.get_by_text("שלום עולם")
    expect(hebrew).to_be_visible()
    assert style(hebrew, "direction") == "rtl"
    for picture in tab.page.locator("img").all():
        assert picture.evaluate("each => each.decode().then(() => each.naturalWidth)") > 0


def test_sections_are_reached_by_links(tab, report):
    tab.open(report.as_uri())
    for link in tab.page.locator("nav a").all():
        link.click()
        name = (link.get_attribute("href") or "").removeprefix("#")
        expect(tab.page.locator(f"#{name} h2")).to_be_in_viewport()


def test_tables_are_sorted_by_mouse_and_keyboard(tab, report):
    tab.open(report.as_uri())
    table = tab.page.locator("table").first
    table.get_by_role("button", name="train pairs").click()
    assert column(tab, 3) == ["12,345", "2,000", "900"]
    table.get_by_role("button", name="train pairs").press("Enter")
    assert column(tab, 3) == ["900", "2,000", "12,345"]
    expect(table.locator("th[aria-sort=ascending]")).to_have_text("train pairs")
    table.get_by_role("button", name="language").press("Space")
    assert column(tab, 2) == ["Croatian", "French", "German"]


def test_a_comparison_shows_names_as_text(tab, comparison):
    open_all(tab, comparison)
    assert EVIL in tab.page.locator("#runs").text_content()
    assert tab.page.locator("script").count() == 1


def test_the_report_of_prepared_data_is_as_clean(tab, prepared):
    open_all(tab, prepared.directory / "report.html")
    expect(tab.page.locator("h1")).to_be_visible()
