"""The page of an evaluation, `report.html`: scores, learning, routing and sentences in one file."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from gshard_mt.evaluate import table as tables
from gshard_mt.evaluate.history import History
from gshard_mt.evaluate.samples import Samples
from gshard_mt.evaluate.table import BUCKETS, Table
from gshard_mt.report import page
from gshard_mt.run.directory import Run
from gshard_mt.train.metrics import summarize

if TYPE_CHECKING:
    from gshard_mt.report.page import Figure

NAME = "report.html"


class Report(NamedTuple):
    """What the page is made of; whatever is missing has no section."""

    name: str  # of the run directory
    run: Run
    table: Table
    history: History
    samples: Mapping[str, Samples]  # by pair


def write(report: Report, folder: pathlib.Path) -> pathlib.Path:
    """Writes the page and `pictures/*.png` into the folder; returns the page's path."""
    page.silence_matplotlib()
    from gshard_mt.evaluate.figures import draw  # only here does matplotlib cost anyone time

    figures = list(draw(report.table, report.run, report.history))
    page.write_pictures(figures, folder)
    path = folder / NAME
    path.write_text(to_html(report, figures), encoding="utf-8")
    return path


def to_html(report: Report, figures: "Sequence[Figure]") -> str:
    """Returns the page."""
    table = report.table
    return page.render(
        pathlib.Path(__file__).with_name("report.html.jinja"),
        report=report,
        table=table,
        columns=columns(table),
        averages={name: mean for name, mean in tables.averages(table.rows).items() if mean},
        differences=tables.differences(table.rows),
        leaks=tables.leaks(table.rows),
        figures=page.by_section(figures),
        routing=[
            {"name": f"{line['stack']} {line['layer']}", **summarize(line)}
            for line in report.history.routing_of(table.step)
        ],
        samples=[row for row in table.rows if row.pair in report.samples],
    )


class Column(NamedTuple):
    """A column of the page's table: what its cells say and what they are sorted by."""

    key: str  # a row's field that it is sorted by
    title: str
    form: str  # of str.format with the row's fields
    is_number: bool = True

    def cell(self, fields: Mapping[str, Any]) -> str:
        """Returns a cell's text, nothing where there is no such field."""
        try:
            return self.form.format_map(fields)
        except KeyError:
            return ""

    def sort_value(self, fields: Mapping[str, Any]) -> str:
        """Returns what the page's script compares; empty cells come last either way."""
        value = fields.get(self.key, "")
        return str(BUCKETS.index(value)) if self.key == "bucket" else str(value)


def columns(table: Table) -> list[Column]:
    """Returns the columns of a table; one for each further metric, three for a baseline."""
    found = [
        Column("pair", "pair", "{pair}", is_number=False),
        Column("language", "language", "{language}", is_number=False),
        Column("train_pairs", "train pairs", "{train_pairs:,}"),
        Column("bucket", "bucket", "{bucket}", is_number=False),
        Column("sentences", "sentences", "{sentences:,}"),
        Column("bleu", "BLEU", "{bleu:.1f}"),
        Column("bleu_low", "95%", "{bleu_low:.1f}\N{EN DASH}{bleu_high:.1f}"),
        Column("chrf", "chrF", "{chrf:.1f}"),
    ]
    for name in table.rows[0].more:
        found.append(Column(name, name, f"{{{name}:.1f}}"))
    if any(row.comparison for row in table.rows):
        found += [
            Column("baseline_bleu", "baseline", "{baseline_bleu:.1f}"),
            Column("delta_bleu", "delta", "{delta_bleu:+.1f}"),
            Column("p_value", "p", "{p_value:.4f}"),
        ]
    return found
