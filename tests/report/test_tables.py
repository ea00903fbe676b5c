"""A table is aligned for a terminal, and its cells stay text in Markdown, CSV and on a page."""
# SPDX-License-Identifier: Apache-2.0

import csv
import html
import io

import pytest

from gshard_mt.report.page import Page, Section, to_markdown, write_page
from gshard_mt.report.tables import Table, escape, to_csv

STRANGE = 'a|b <i>\r\n"c", `d` \\e [f](g) *h* _i_ &amp;'


def test_text_has_numbers_on_the_right_and_rules_around_the_rows():
    table = Table(["pair", "BLEU"], [["de-en", "5.0"], ["fr-en", "10.0"]], footer=[["mean", "7.5"]])
    assert table.to_text() == [
        "pair   BLEU",
        "-----------",
        "de-en   5.0",
        "fr-en  10.0",
        "-----------",
        "mean    7.5",
    ]


def test_markdown_shows_a_cell_as_it_is():
    head, rule, row = Table(["pair", "BLEU"], [[STRANGE, ""]]).to_markdown()
    assert head == "| pair | BLEU |" and rule == "| --- | ---: |"
    assert row == f"| {escape(STRANGE)} |  |"
    assert escape(STRANGE) == ('a\\|b &lt;i> "c", \\`d\\` \\\\e \\[f](g) \\*h* \\_i_ \\&amp;')
    assert escape("sr_Latn-en 10.0 *") == "sr_Latn-en 10.0 *"


def test_csv_reads_back_as_the_records():
    records = [{"name": STRANGE, "bleu": 1 / 3}, {"name": "b"}]
    text = to_csv(records)
    assert list(csv.DictReader(io.StringIO(text, newline=""))) == [
        {"name": STRANGE, "bleu": str(1 / 3)},
        {"name": "b", "bleu": ""},
    ]


@pytest.mark.parametrize("footer", [[], [[STRANGE, "1"]]], ids=["rows", "footer"])
def test_a_page_escapes_all_of_its_texts(tmp_path, footer):
    section = Section(
        "one", STRANGE, [STRANGE], Table([STRANGE, "n"], [[STRANGE, "1"]], (), footer)
    )
    page = Page(STRANGE, STRANGE, [section], signatures={"bleu": "x"})
    write_page(page, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<i>" not in text and html.unescape(text).count("<i>") == 9 + len(footer)
    assert "<i>" not in to_markdown(page) and not (tmp_path / "pictures").exists()
