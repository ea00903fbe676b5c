"""A comparison of runs as text, Markdown, CSV, JSON and a page: the same tables in each."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gshard_mt.documents import write_json
from gshard_mt.evaluate.comparison import RunComparison, to_json
from gshard_mt.evaluate.scores import SIGNIFICANCE, signatures
from gshard_mt.evaluate.table import shown_averages
from gshard_mt.report import tables
from gshard_mt.report.page import Figure, Page, Section, to_markdown, write_page
from gshard_mt.report.tables import Table

NAME = "comparison"
_NONE = "-"


def write(comparison: RunComparison, folder: pathlib.Path) -> pathlib.Path:
    """Writes `comparison.md`, `.csv`, `.json` and `.html`, `pictures/*.png`; returns the page."""
    from gshard_mt.evaluate.figures import draw_comparison  # imports matplotlib: takes a second

    folder.mkdir(parents=True, exist_ok=True)
    page = make_page(comparison, list(draw_comparison(comparison)))
    write_json(folder / f"{NAME}.json", to_json(comparison), ensure_ascii=False, indent=2)
    (folder / f"{NAME}.csv").write_text(to_csv(comparison), encoding="utf-8", newline="")
    (folder / f"{NAME}.md").write_text(to_markdown(page), encoding="utf-8")
    path = folder / f"{NAME}.html"
    write_page(page, path)
    return path


def make_page(comparison: RunComparison, figures: Sequence[Figure] = ()) -> Page:
    """Returns the tables that have rows, with their notes."""
    sections = [_runs(comparison), _languages(comparison)]
    sections += [*_tokens(comparison), *_routing(comparison)]
    languages = len(comparison.rows[0])
    return Page(
        title=f"Side by side: {comparison.evaluations[0].split}",
        lead=f"{len(comparison.evaluations)} runs on the same sentences of {languages} "
        f"{'language' if languages == 1 else 'languages'} into English.",
        sections=sections,
        figures=figures,
        signatures=signatures(),
    )


def to_csv(comparison: RunComparison) -> str:
    """Returns one line per language; a run's columns begin with its name."""
    records = []
    for row in to_json(comparison)["rows"]:
        of_runs = row.pop("runs")
        columns = {
            f"{name} {key}": value
            for name, fields in of_runs.items()
            for key, value in fields.items()
            if key != "baseline_bleu"
        }
        records.append({**row, **columns})
    return tables.to_csv(records)


def _runs(comparison: RunComparison) -> Section:
    first = comparison.evaluations[0].name
    head = ["run", "checkpoint", "parameters", "active", "target tokens", "minutes", "dev nll"]
    shown = [name for name in shown_averages(comparison.rows[0]) if name != "all"]
    head += ["BLEU", "95 %", *shown, "delta", "95 %", "better", "worse"]
    rows = [_summary_cells(summary, shown) for summary in comparison.summaries()]
    of_buckets = f" {', '.join(shown)} are by the training pairs of {first};" if shown else ""
    note = (
        f"BLEU is the mean of {len(comparison.rows[0])} languages, with its 95% interval when each "
        f"language is resampled;{of_buckets} delta is the "
        f" difference to {first} on the same resampled sets; better and worse count languages "
        f"at p < {SIGNIFICANCE}. Active parameters are those used for one token; minutes are those "
        "of the training steps."
    )
    return Section("runs", "Runs", (note,), Table(head, rows, text_columns=(0, 1)))


def _summary_cells(summary: Mapping[str, Any], shown: Sequence[str]) -> list[str]:
    mean, nll = summary["averages"]["all"], summary["dev_nll"]
    line = [summary["name"], summary["checkpoint"]]
    line += [f"{summary[key]:,}" for key in ("parameters", "active_parameters", "target_tokens")]
    line += [f"{summary['seconds'] / 60:.1f}", _NONE if nll is None else f"{nll:.3f}"]
    line += [f"{mean['bleu']:.1f}", f"{mean['bleu_low']:.1f}-{mean['bleu_high']:.1f}"]
    line += [f"{summary['averages'][bucket]['bleu']:.1f}" for bucket in shown]
    if "better" not in summary:
        return [*line, *[""] * 4]
    interval = f"{mean['delta_low']:+.1f} to {mean['delta_high']:+.1f}"
    line += [f"{mean['delta_bleu']:+.1f}", interval]
    return [*line, str(len(summary["better"])), str(len(summary["worse"]))]


def _languages(comparison: RunComparison) -> Section:
    names = [evaluation.name for evaluation in comparison.evaluations]
    rows = []
    for first, *others in zip(*comparison.rows, strict=True):
        row = [first.pair, first.language, f"{first.train_pairs:,}", first.bucket]
        row.append(f"{first.score.bleu:.1f}")
        for other in others:
            is_sure = other.comparison and other.comparison.is_significant
            row.append(f"{other.score.bleu:.1f}{' *' if is_sure else ''}")
        rows.append(row)
    table = Table(["pair", "language", "train pairs", "bucket", *names], rows, (0, 1, 3))
    note = (
        f"BLEU; a star marks a difference to {names[0]} at p < {SIGNIFICANCE}, tested for that "
        "language alone."
    )
    return Section("languages", "BLEU by language", (note,), table)


def _tokens(comparison: RunComparison) -> Iterator[Section]:
    found = comparison.tokens_by_level()
    if not found:
        return
    rows = []
    for evaluation, *reached in zip(comparison.evaluations, *found.values(), strict=True):
        cells = [_NONE if tokens is None else f"{tokens:,.0f}" for tokens in reached]
        rows.append([evaluation.name, *cells])
    note = (
        "Target tokens trained on when a run's dev nll, the mean of languages, first reached a "
        "level or fell below it (the paper's table 2), interpolated linearly between two "
        f"evaluations; {_NONE} means never."
    )
    if others := comparison.runs_on_other_data():
        note += f" Prepared from other data than {comparison.evaluations[0].name}, so their "
        note += f"subwords may differ: {', '.join(others)}."
    table = Table(["run", *(f"{level:g}" for level in found)], rows)
    yield Section("tokens", "Target tokens to a dev nll", (note,), table)


def _routing(comparison: RunComparison) -> Iterator[Section]:
    rows = []
    for name, mean in comparison.routing().items():
        shares = [f"{mean[f'sent_to_{n}']:.1%}" for n in ("0", "1", "2", "more")]
        rows.append([name, *shares, f"{mean['max_load']:.2f}", f"{mean['entropy']:.2f}"])
    if not rows:
        return
    head = ["run", "to no expert", "to 1", "to 2", "to more", "max load", "entropy"]
    note = (
        "Means over the MoE layers, of the training steps before the last dev evaluation: the "
        "shares of tokens dispatched to that many experts, the busiest expert's load relative to "
        "an even one, and the entropy of the gate in nats per token."
    )
    yield Section("routing", "Routing", (note,), Table(head, rows))
