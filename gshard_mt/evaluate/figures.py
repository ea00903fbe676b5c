"""Draws the pictures of an evaluation's report and of a comparison, from tables and journals."""
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from gshard_mt.data.mixture import temperature_shares
from gshard_mt.evaluate.comparison import RunComparison
from gshard_mt.evaluate.table import ScoreTable
from gshard_mt.languages import english_name, source_language
from gshard_mt.report import pictures
from gshard_mt.report.page import Figure
from gshard_mt.run.directory import Run
from gshard_mt.run.journal import History, drop_rates, expert_shares


def draw_report(table: ScoreTable, run: Run, history: History) -> Iterator[Figure]:
    """Yields the pictures that have data, with languages from high to low resource."""
    yield from _scores(table)
    yield from _learning(history, table.step)
    yield from _by_language(run, history.dev_nll(table.step))
    yield from _routing(run.train_pairs, history, table.step)


def draw_comparison(comparison: RunComparison) -> Iterator[Figure]:
    """Yields the pictures that have data: learning curves, and each language's gain in BLEU."""
    curves = {each.name: each.learning_curve() for each in comparison.evaluations}
    if curves := {name: curve for name, curve in curves.items() if curve}:
        picture = pictures.learning_curves(curves)
        yield Figure("tokens", "learning_curves", "Dev nll by target tokens", picture)
    first, *others = comparison.evaluations
    if others:
        gains = {
            other.name: [row.comparison.delta_bleu for row in rows if row.comparison]
            for other, rows in zip(others, comparison.rows[1:], strict=True)
        }
        sizes = [row.train_pairs for row in comparison.rows[0]]
        picture = pictures.gains(sizes, gains, f"BLEU above {first.name}")
        yield Figure("languages", "bleu_gain", "BLEU gained, by training pairs", picture)


def _scores(table: ScoreTable) -> Iterator[Figure]:
    rows = table.rows
    if len(rows) > 1:
        picture = pictures.by_size(
            [(source_language(row.pair), row.train_pairs, row.bucket) for row in rows],
            [(row.score.bleu, row.score.bleu_low, row.score.bleu_high) for row in rows],
        )
        yield Figure("size", "bleu_by_size", "BLEU by training pairs", picture)
    compared = [(row.language, row.comparison) for row in rows if row.comparison]
    if compared:
        picture = pictures.differences(
            [language for language, _ in compared],
            [comparison.delta_bleu for _, comparison in compared],
            [comparison.is_significant for _, comparison in compared],
        )
        yield Figure("baseline", "delta_bleu", "BLEU above the baseline's", picture)


def _learning(history: History, step: int) -> Iterator[Figure]:
    lines, dots = {}, {}
    if history.train:
        steps, losses, nlls = zip(
            *((line["step"], line["loss"], line["nll"]) for line in history.train), strict=True
        )
        lines = {"training loss": (steps, losses), "training nll": (steps, nlls)}
        if losses == nlls:  # no label smoothing
            del lines["training loss"]
    if mean := history.mean_dev_nll():
        dots = {"dev nll, mean of languages": (list(mean), list(mean.values()))}
    if lines or dots:
        picture = pictures.curves(lines, dots, step, "nats per target token")
        yield Figure("learning", "learning_curves", "Losses by step", picture)
    if mean := history.mean_dev_bleu():
        dots = {"dev BLEU of a sample, mean of languages": (list(mean), list(mean.values()))}
        picture = pictures.curves({}, dots, step, "BLEU")
        yield Figure("learning", "dev_bleu", "Dev BLEU by step, greedy", picture)


def _by_language(run: Run, nll: Mapping[str, float]) -> Iterator[Figure]:
    if nll:
        pairs = _ranked(run.train_pairs, nll)
        title, panel = "Dev nll", {"nll": [nll[pair] for pair in pairs]}
        picture = pictures.dots(_names(pairs), {title: panel}, "nats per target token")
        yield Figure("languages", "dev_nll", title, picture)
    own = [pair for pair, num in run.train_pairs.items() if num and pair not in run.former_pairs]
    pairs = _ranked(run.train_pairs, own)
    if len(pairs) > 1:
        counts = [run.train_pairs[pair] for pair in pairs]
        temperature = run.config.data.temperature
        series = {"in the data": temperature_shares(counts, 1.0)}
        if not run.config.train.stages:  # each may have its own
            name = f"as sampled (T = {temperature:g})"
            series[name] = temperature_shares(counts, temperature)
        title = "Shares of the training pairs"
        picture = pictures.dots(_names(pairs), {title: series}, "share", is_log=True)
        yield Figure("languages", "sampling_shares", title, picture)


def _routing(train_pairs: Mapping[str, int], history: History, step: int) -> Iterator[Figure]:
    lines = history.routing_of(step)
    if not lines:
        return
    pairs = lines[0]["pairs"]
    order = [pairs.index(pair) for pair in _ranked(train_pairs, pairs)]
    names = _names([pairs[index] for index in order])
    panels = {
        stack: {
            "tokens dispatched to no expert": lost.to_no_expert_X[order].tolist(),
            "choices over capacity": lost.over_capacity_X[order].tolist(),
        }
        for stack, lost in drop_rates(lines).items()
    }
    picture = pictures.dots(names, panels, "share", is_share=True)
    yield Figure("routing", "lost_to_capacity", "Dropped by capacity, by language", picture)
    all_shares = [expert_shares(line)[order] for line in lines]
    largest = max((np.nanmax(each) for each in all_shares if not np.isnan(each).all()), default=1.0)
    for line, shares_XE in zip(lines, all_shares, strict=True):
        name, title = f"experts_{line['stack']}_{line['layer']}", f"{line['stack']} {line['layer']}"
        picture = pictures.heat_map(names, shares_XE, float(largest))
        yield Figure("routing", name, f"Experts by language: {title}", picture)


def _ranked(train_pairs: Mapping[str, int], pairs: Iterable[str]) -> list[str]:
    return sorted(pairs, key=lambda pair: (-train_pairs.get(pair, 0), pair))


def _names(pairs: Iterable[str]) -> list[str]:
    return [english_name(source_language(pair)) for pair in pairs]
