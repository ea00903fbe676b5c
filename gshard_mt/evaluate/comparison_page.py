"""Runs side by side as text, Markdown, CSV, JSON and a page: the same tables in each."""
# SPDX-License-Identifier: Apache-2.0

import csv
import io
import json
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from gshard_mt.evaluate.comparison import SideBySide, to_json
from gshard_mt.evaluate.scores import LEVEL, signatures
from gshard_mt.evaluate.table import BUCKETS
from gshard_mt.report import page
from gshard_mt.report import tables as cells
from gshard_mt.report.tables import Cells

if TYPE_CHECKING:
    from gshard_mt.report.page import Figure

NAME = "comparison"
_NONE = "-"


class Section(NamedTuple):
    """A table with what is to be known to read it."""

    id: str
    title: str
    note: str
    cells: Cells
    text_columns: tuple[int, ...] = (0,)

    def sort_value(self, column: int, cell: str) -> str:
        """Returns what the page's script compares: a number as it is printed, text as it is."""
        if column in self.text_columns:
            return str(BUCKETS.index(cell)) if cell in BUCKETS else cell
        number = re.match(r"[-+]?[\d.]+", cell.replace(",", ""))
        return number[0] if number else ""


def write(side: SideBySide, folder: pathlib.Path) -> pathlib.Path:
    """Writes `comparison.md`, `.csv`, `.json` and `.html`, `pictures/*.png`; returns the page."""
    page.silence_matplotlib()
    from gshard_mt.evaluate.comparison_figures import draw  # here alone it imports matplotlib

    figures = list(draw(side))
    page.write_pictures(figures, folder)
    record = json.dumps(to_json(side), ensure_ascii=False, indent=2) + "\n"
    (folder / f"{NAME}.json").write_text(record, encoding="utf-8")
    (folder / f"{NAME}.csv").write_text(to_csv(side), encoding="utf-8", newline="")
    (folder / f"{NAME}.md").write_text(to_markdown(side), encoding="utf-8")
    path = folder / f"{NAME}.html"
    path.write_text(to_html(side, figures), encoding="utf-8")
    return path


def to_text(side: SideBySide) -> str:
    """Returns the tables for a terminal."""
    lines = []
    for section in sections(side):
        lines += [f"{section.title}:", *cells.align(section.cells, section.text_columns), ""]
    lines += [f"{name}: {signature}" for name, signature in signatures().items()]
    return "\n".join(lines) + "\n"


def to_markdown(side: SideBySide) -> str:
    """Returns the tables with their notes and the signatures."""
    lines = [f"# Side by side: {side.evaluated[0].split}", ""]
    for section in sections(side):
        lines += [f"## {section.title}", "", section.note.replace("<", "\\<"), ""]
        lines += [*cells.to_markdown(section.cells, section.text_columns), ""]
    lines += [f"- {name}: `{signature}`" for name, signature in signatures().items()]
    return "\n".join(lines) + "\n"


def to_html(side: SideBySide, figures: "Sequence[Figure]") -> str:
    """Returns the page."""
    return page.render(
        pathlib.Path(__file__).with_name("comparison.html.jinja"),
        side=side,
        sections=list(sections(side)),
        figures=page.by_section(figures),
        signatures=signatures(),
    )


def to_csv(side: SideBySide) -> str:
    """Returns a line a language; a run's columns begin with its name."""
    lines = []
    for row in to_json(side)["rows"]:
        of_runs = row.pop("runs")
        columns = {
            f"{name} {key}": value
            for name, fields in of_runs.items()
            for key, value in fields.items()
            if key != "baseline_bleu"
        }
        lines.append({**row, **columns})
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]))
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def sections(side: SideBySide) -> Iterator[Section]:
    """Yields the tables for which there is something."""
    yield _runs(side)
    yield _languages(side)
    if (reached := _tokens(side)) is not None:
        yield reached
    if (routing := _routing(side)) is not None:
        yield routing


def _runs(side: SideBySide) -> Section:
    first = side.evaluated[0].name
    head = ["run", "checkpoint", "parameters", "active", "target tokens", "minutes", "dev nll"]
    head += ["BLEU", "95 %", *BUCKETS, "delta", "95 %", "better", "worse"]
    lines = [head, *(_summary_cells(summary) for summary in side.summaries())]
    return Section(
        "runs",
        "Runs",
        f"BLEU is the mean of {len(side.rows[0])} languages, with 95 % of the means when each "
        f"language is drawn anew; high, mid and low are by the training pairs of {first}, delta is "
        f"above {first} on the same draws, better and worse count languages at p < {LEVEL}. "
        "Active parameters are those that one token meets; minutes are those of the training "
        "steps.",
        lines,
        (0, 1),
    )


def _summary_cells(summary: Mapping[str, Any]) -> list[str]:
    mean, nll = summary["averages"]["all"], summary["dev_nll"]
    line = [summary["name"], summary["checkpoint"]]
    line += [f"{summary[key]:,}" for key in ("parameters", "active_parameters", "target_tokens")]
    line += [f"{summary['seconds'] / 60:.1f}", _NONE if nll is None else f"{nll:.3f}"]
    line += [f"{mean['bleu']:.1f}", f"{mean['bleu_low']:.1f}-{mean['bleu_high']:.1f}"]
    buckets = [summary["averages"][bucket] for bucket in BUCKETS]
    line += [f"{bucket['bleu']:.1f}" if bucket else _NONE for bucket in buckets]
    if "better" not in summary:
        return [*line, *[""] * 4]
    interval = f"{mean['delta_low']:+.1f} to {mean['delta_high']:+.1f}"
    line += [f"{mean['delta_bleu']:+.1f}", interval]
    return [*line, str(len(summary["better"])), str(len(summary["worse"]))]


def _languages(side: SideBySide) -> Section:
    names = [evaluated.name for evaluated in side.evaluated]
    lines = [["pair", "language", "train pairs", "bucket", *names]]
    for first, *others in zip(*side.rows, strict=True):
        line = [first.pair, first.language, f"{first.train_pairs:,}", first.bucket]
        line.append(f"{first.bleu:.1f}")
        for row in others:
            is_sure = row.comparison and row.comparison.is_significant
            line.append(f"{row.bleu:.1f}{' *' if is_sure else ''}")
        lines.append(line)
    note = f"BLEU; a star is a difference to {names[0]} at p < {LEVEL}, of that language alone."
    return Section("languages", "BLEU by language", note, lines, (0, 1, 3))


def _tokens(side: SideBySide) -> Section | None:
    found = side.tokens_by_level()
    if not found:
        return None
    lines = [["run", *(f"{level:g}" for level in found)]]
    for number, evaluated in enumerate(side.evaluated):
        reached = (each[number] for each in found.values())
        words = [_NONE if tokens is None else f"{tokens:,.0f}" for tokens in reached]
        lines.append([evaluated.name, *words])
    note = (
        "Target tokens that a run was trained on when its dev nll, the mean of languages, was "
        "first at such a level or below (the paper's table 2); between two evaluations it is "
        f"taken to fall in a line, {_NONE} is never."
    )
    if strangers := side.strangers():
        note += f" On other prepared data than {side.evaluated[0].name}, whose subwords may "
        note += f"differ: {', '.join(strangers)}."
    return Section("tokens", "Target tokens to a dev nll", note, lines)


def _routing(side: SideBySide) -> Section | None:
    found = side.routing()
    if not found:
        return None
    lines = [["run", "to no expert", "to 1", "to 2", "to more", "max load", "entropy"]]
    for name, mean in found.items():
        shares = [f"{mean[f'sent_to_{n}']:.1%}" for n in ("0", "1", "2", "more")]
        lines.append([name, *shares, f"{mean['max_load']:.2f}", f"{mean['entropy']:.2f}"])
    note = (
        "Of the training steps before the last dev evaluation, means over the MoE layers: tokens "
        "that went to so many experts, the busiest expert's load over an even one, and the "
        "entropy of the gate in nats."
    )
    return Section("routing", "Routing", note, lines)
