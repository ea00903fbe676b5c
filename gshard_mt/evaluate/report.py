"""The page of an evaluation, `report.html`: scores, learning, routing and sentences in one file."""
# SPDX-License-Identifier: Apache-2.0

import datetime
import pathlib
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax

from gshard_mt.evaluate import table as tables
from gshard_mt.evaluate.reliability import Reliability
from gshard_mt.evaluate.samples import Samples
from gshard_mt.evaluate.table import ScoreRow, ScoreTable
from gshard_mt.partitioning.hardware import processor_name
from gshard_mt.report.page import Page, Section, write_page
from gshard_mt.report.tables import Table
from gshard_mt.run.directory import Run
from gshard_mt.run.journal import History, summarize

NAME = "report.html"
_ALL = "BLEU, mean of all languages"


class Report(NamedTuple):
    """The content of the page; what is empty has no section."""

    name: str  # of the run directory
    run: Run
    scores: ScoreTable
    history: History
    samples: Mapping[str, Samples]  # by language pair
    reliability: Reliability | None = None
    about: Sequence[str] = ()  # how it came about


def describe(command: str, history: History, step: int) -> list[str]:
    """Returns the date, program and machine of an evaluation, and what its training took."""
    now = datetime.datetime.now(datetime.UTC)
    # Without the folders that files are in, since others read the page.
    words = [re.sub(r"(^|[=:])/(?:[^/]*/)*(?=[^/])", r"\1", word) for word in shlex.split(command)]
    by = f" with {shlex.join(words)}" if words else ""
    devices = jax.devices()
    kind = processor_name() if devices[0].platform == "cpu" else devices[0].device_kind
    many = f", as {len(devices)} devices" if len(devices) > 1 else ""
    lines = [f"Evaluated on {now:%Y-%m-%d} at {now:%H:%M} UTC{by}.", f"Machine: {kind}{many}."]
    if tokens := history.total("target_tokens", step):
        minutes = history.training_seconds(step) / 60
        lines.append(f"Trained on {tokens:,} target tokens in {minutes:,.1f} minutes of steps.")
    return lines


def write(report: Report, folder: pathlib.Path) -> pathlib.Path:
    """Writes the page and `pictures/*.png` into the folder; returns the page's path."""
    from gshard_mt.evaluate.figures import draw_report  # imports matplotlib, which takes a second

    scores, path = report.scores, folder / NAME
    figures = list(draw_report(scores, report.run, report.history))
    filled = {figure.section for figure in figures} | ({"sentences"} if report.samples else set())
    page = Page(
        title=f"Evaluation of {report.name}: {scores.split}, step {scores.step:,}",
        lead=_lead(report),
        sections=[each for each in _sections(report) if each.table or each.id in filled]
        + [*_terms(report), *([Section("about", "About", report.about)] if report.about else [])],
        figures=figures,
        signatures=scores.signatures,
    )
    template = pathlib.Path(__file__).with_name("report.html.jinja")
    write_page(page, path, template, report=report, averages=_averages(scores.rows))
    return path


def _averages(rows: Sequence[ScoreRow]) -> dict[str, Mapping[str, float]]:
    """Returns what the head of the page shows, by its name."""
    if len(rows) == 1:
        return {f"BLEU, {rows[0].language}": rows[0].to_fields()}
    means = tables.shown_averages(rows)
    return {f"{name} resource" if name != "all" else _ALL: mean for name, mean in means.items()}


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


def _terms(report: Report) -> list[Section]:
    terms = [
        "BLEU: how many sequences of one to four words of the translations are in the references, "
        "from 0 to 100. chrF: the same for sequences of up to six characters, where recall counts "
        "twice as much as precision.",
        "nll: the negative log-likelihood that the model gives to the reference, in nats per "
        "subword; 0 would be certainty. The loss is the nll with label smoothing, if there is any.",
    ]
    if report.run.config.model.moe.num_experts:
        terms.append(
            "Capacity: how many tokens of a group an expert takes. A choice beyond it is dropped; "
            "a token that no expert takes skips the layer. Entropy: how undecided the gate is "
            "between experts, 0 if it is certain."
        )
    return [Section("terms", "Terms", terms)]


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
