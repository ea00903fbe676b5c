"""Compares runs: quality by language, and how many tokens it took to reach it."""
# SPDX-License-Identifier: Apache-2.0

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from gshard_mt.evaluate import table as tables
from gshard_mt.evaluate.folder import SavedEvaluation, check_same_references, with_unique_names
from gshard_mt.evaluate.scores import compare, score, signatures
from gshard_mt.evaluate.table import ScoreRow
from gshard_mt.run.journal import summarize

FORMAT_VERSION = 1
MIN_LEVELS, MAX_LEVELS = 3, 4
_LEVEL_STEPS = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01)  # nats

Curve = Sequence[tuple[float, float]]  # target tokens and mean dev nll, in order


class RunComparison(NamedTuple):
    """Evaluations of the same sentences; the others are compared with the first."""

    evaluations: tuple[SavedEvaluation, ...]
    rows: tuple[tuple[ScoreRow, ...], ...]  # of each run; buckets and order are the first one's

    def summaries(self) -> list[dict[str, Any]]:
        """Returns one record per run: size, training, dev nll and average scores."""
        return [_summary(*both) for both in zip(self.evaluations, self.rows, strict=True)]

    def tokens_by_level(self) -> dict[float, list[float | None]]:
        """Returns for round dev nlls the target tokens that each run needed to reach them."""
        curves = [evaluation.learning_curve() for evaluation in self.evaluations]
        return {
            level: [tokens_to_reach(curve, level) for curve in curves]
            for level in loss_levels(curves)
        }

    def routing(self) -> dict[str, dict[str, float]]:
        """Returns by name, for runs with experts, the means over layers at the evaluated step."""
        found = {each.name: mean_routing(each) for each in self.evaluations}
        return {name: mean for name, mean in found.items() if mean}

    def runs_on_other_data(self) -> list[str]:
        """Returns the runs whose prepared data, and so maybe subwords, differ from the first's."""
        first, *others = self.evaluations
        own = first.run.data_fingerprint
        return [other.name for other in others if other.run.data_fingerprint != own]


def compare_runs(
    evaluations: Sequence[SavedEvaluation], report_progress: Callable[[], Any] = lambda: None
) -> RunComparison:
    """Scores and compares every language; calls `report_progress` after each language of a run.

    Buckets are by the first run's own training pairs. Raises DataError if references differ.
    """
    check_same_references(evaluations)
    first, *others = with_unique_names(evaluations)
    all_rows = []
    for evaluation in (first, *others):
        scores, comparisons = {}, {}
        for pair, references in first.references.items():
            hypotheses = evaluation.hypotheses[pair]
            scores[pair] = score(hypotheses, references)
            if evaluation is not first:
                comparisons[pair] = compare(hypotheses, first.hypotheses[pair], references)
            report_progress()
        all_rows.append(tables.make_rows(scores, first.run.train_pairs, comparisons))
    return RunComparison((first, *others), tuple(all_rows))


def _summary(evaluation: SavedEvaluation, rows: tuple[ScoreRow, ...]) -> dict[str, Any]:
    compared = [(row.pair, row.comparison) for row in rows if row.comparison]
    sure = [(pair, comparison) for pair, comparison in compared if comparison.is_significant]
    names = ("name", "checkpoint", "step", "parameters", "active_parameters")
    summary = {name: getattr(evaluation, name) for name in names} | {
        "target_tokens": evaluation.history.total("target_tokens", evaluation.step),
        "seconds": evaluation.history.training_seconds(evaluation.step),
        "dev_nll": evaluation.dev_nll(),
        "averages": tables.averages(rows),
    }
    if compared:
        summary["better"] = [pair for pair, comparison in sure if comparison.delta_bleu > 0]
        summary["worse"] = [pair for pair, comparison in sure if comparison.delta_bleu < 0]
    return summary


def loss_levels(curves: Sequence[Curve]) -> list[float]:
    """Returns the lowest round dev nlls that some run reached, but none at its first evaluation.

    At most MAX_LEVELS, spaced by the largest of 1, 0.5, 0.2, ... nats that yields MIN_LEVELS.
    """
    known = [[nll for _, nll in curve] for curve in curves if curve]
    if not known:
        return []
    lowest, highest = min(map(min, known)), min(nlls[0] for nlls in known)
    found: list[float] = []
    for step in _LEVEL_STEPS:
        first = math.ceil(round(lowest / step, 6))
        found = [round(number * step, 2) for number in range(first, first + MAX_LEVELS)]
        found = [level for level in found if level < highest]
        if len(found) >= MIN_LEVELS:
            break
    return found[::-1]


def tokens_to_reach(curve: Curve, level: float) -> float | None:
    """Returns the tokens after which the loss was first at a level or below; None if it never was.

    The loss is interpolated linearly between two evaluations.
    """
    before: tuple[float, float] | None = None
    for tokens, nll in curve:
        if nll <= level:
            if before is None:
                return tokens
            share = (before[1] - level) / (before[1] - nll)
            return before[0] + share * (tokens - before[0])
        before = tokens, nll
    return None


def mean_routing(evaluation: SavedEvaluation) -> dict[str, float]:
    """Returns the router's statistics, averaged over the MoE layers; `{}` for a dense run.

    `sent_to_0`, `sent_to_1`, `sent_to_2` and `sent_to_more` are shares of tokens, `max_load` is the
    busiest expert's load relative to an even one, `entropy` is in nats per token.
    """
    layers = [summarize(line) for line in evaluation.history.routing_of(evaluation.step)]
    if not layers:
        return {}
    keys = ("sent_to_0", "sent_to_1", "sent_to_2", "max_load", "entropy")
    means = {key: sum(layer.get(key, 0.0) for layer in layers) / len(layers) for key in keys}
    return means | {"sent_to_more": max(0.0, 1 - sum(means[key] for key in keys[:3]))}


def to_json(comparison: RunComparison) -> dict[str, Any]:
    """Returns the content of `comparison.json`."""
    levels = comparison.tokens_by_level().items()
    return {
        "format_version": FORMAT_VERSION,
        "split": comparison.evaluations[0].split,
        "signatures": signatures(),
        "runs": comparison.summaries(),
        "rows": [_row_record(comparison, index) for index in range(len(comparison.rows[0]))],
        "tokens_to_reach": [{"dev_nll": level, "target_tokens": each} for level, each in levels],
        "routing": comparison.routing(),
        "other_data": comparison.runs_on_other_data(),
    }


def _row_record(comparison: RunComparison, index: int) -> dict[str, Any]:
    names = ("pair", "language", "train_pairs", "bucket", "sentences")
    records = [rows[index].to_fields() for rows in comparison.rows]
    of_run = {
        evaluation.name: {key: value for key, value in record.items() if key not in names}
        for evaluation, record in zip(comparison.evaluations, records, strict=True)
    }
    return {**{name: records[0][name] for name in names}, "runs": of_run}
