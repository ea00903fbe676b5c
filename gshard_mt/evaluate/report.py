"""The page of an evaluation, `report.html`: scores, learning, routing and sentences in one file."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
from collections.abc import Mapping
from typing import NamedTuple

from gshard_mt.evaluate import table as tables
from gshard_mt.evaluate.reliability import Reliability
from gshard_mt.evaluate.samples import Samples
from gshard_mt.evaluate.table import ScoreTable
from gshard_mt.report.page import Page, Section, write_page
from gshard_mt.report.tables import Table
from gshard_mt.run.directory import Run
from gshard_mt.run.journal import History, summarize

NAME = "report.html"


class Report(NamedTuple):
    """The content of the page; what is empty has no section."""

    name: str  # of the run directory
    run: Run
    scores: ScoreTable
    history: History
    samples: Mapping[str, Samples]  # by language pair
    reliability: Reliability | None = None


def write(report: Report, folder: pathlib.Path) -> pathlib.Path:
    """Writes the page and `pictures/*.png` into the folder; returns the page's path."""
    from gshard_mt.evaluate.figures import draw_report  # imports matplotlib, which takes a second

    scores, path = report.scores, folder / NAME
    figures = list(draw_report(scores, report.run, report.history))
    filled = {figure.section for figure in figures} | ({"sentences"} if report.samples else set())
    page = Page(
        title=f"{report.name}: {scores.split}, step {scores.step:,}",
        lead=_lead(report),
        sections=[each for each in _sections(report) if each.table or each.id in filled],
        figures=figures,
        signatures=scores.signatures,
    )
    template = pathlib.Path(__file__).with_name("report.html.jinja")
    write_page(page, path, template, report=report, averages=tables.averages(scores.rows))
    return path


def _lead(report: Report) -> str:
    scores, model = report.scores, report.run.config.model
    experts = f"{model.moe.num_experts} experts in every other one ({model.moe.gate})"
    parameters = f"{scores.parameters:,} parameters"
    if scores.active_parameters != scores.parameters:
        parameters += f", {scores.active_parameters:,} of them active for a token"
    origin = report.run.origin
    began = f" Began with the parameters of {origin.name}." if origin else ""
    languages = "1 language" if len(scores.rows) == 1 else f"{len(scores.rows)} languages"
    return (
        f"{languages} into English. {model.num_layers} layers of width {model.model_dim}, "
        f"{experts if model.moe.num_experts else 'dense'}, {parameters}.{began}"
    )


def _sections(report: Report) -> list[Section]:
    rows = report.scores.rows
    scores = (
        "BLEU with the interval that holds 95% of the test sets drawn from the same sentences. "
        "High, mid and low are a quarter, a half and a quarter of the run's languages by their "
        "training pairs.",
        *(f"{line[0].upper()}{line[1:]}." for line in tables.leaks(rows)),
    )
    size = (
        "A dot is a language, the one with the most training pairs on the left; lines are 95% "
        "intervals."
    )
    baseline = (
        "Languages from high to low resource. Dark bars with a star are differences at p < 0.05, "
        "tested for each language alone.",
        *tables.differences(rows),
    )
    routing = (
        "What the router did in the training steps before the last dev evaluation, by layer. Sent "
        "to 0, 1, 2 is the share of tokens dispatched to that many experts; max load is the "
        "busiest expert's load relative to an even one; entropy is the gate's, in nats per token.",
        "The heat maps show how each language's dispatched choices are divided over the experts: "
        "a row adds up to 100%.",
    )
    return [
        Section("scores", "Scores", scores, tables.formatted(report.scores)),
        Section("size", "BLEU by training data", (size,)),
        Section("baseline", "Better than the baseline?", baseline),
        *_reliability(report),
        Section("learning", "Learning", ("The dashed line is the evaluated checkpoint.",)),
        Section("languages", "Languages", ("From high to low resource.",)),
        Section("routing", "Routing", routing, _layers(report)),
        Section("sentences", "Best and worst sentences", ("By the chrF of the sentence alone.",)),
    ]


def _reliability(report: Report) -> list[Section]:
    found = report.reliability
    return [Section("reliability", "Reliability", found.notes, found.table)] if found else []


def _layers(report: Report) -> Table | None:
    lines = report.history.routing_of(report.scores.step)
    if not lines:
        return None
    layers = [summarize(line) for line in lines]
    rows = [
        [
            f"{line['stack']} {line['layer']}",
            *(
                f"{value:.2f}" if key in ("max_load", "entropy") else f"{value:.1%}"
                for key, value in layer.items()
            ),
        ]
        for line, layer in zip(lines, layers, strict=True)
    ]
    return Table(["layer", *(key.replace("_", " ") for key in layers[0])], rows)
