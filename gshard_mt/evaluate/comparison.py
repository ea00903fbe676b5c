"""Several runs side by side: quality by language, and how many tokens it took to get there."""
# SPDX-License-Identifier: Apache-2.0

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from gshard_mt.evaluate import table as tables
from gshard_mt.evaluate.folder import Evaluated, check_same_references, name_apart
from gshard_mt.evaluate.scores import compare, score, signatures
from gshard_mt.evaluate.table import Row
from gshard_mt.train.metrics import summarize

FORMAT_VERSION = 1
FEWEST_LEVELS, MOST_LEVELS = 3, 4
_LEVEL_STEPS = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01)  # nats

Curve = Sequence[tuple[float, float]]  # target tokens and mean dev nll, in order


class SideBySide(NamedTuple):
    """Evaluations of the same sentences; the others are compared with the first."""

    evaluated: tuple[Evaluated, ...]
    rows: tuple[tuple[Row, ...], ...]  # of each; languages, buckets, order are those of the first

    def summaries(self) -> list[dict[str, Any]]:
        """Returns what is to be said of each run in a line."""
        return [_summary(*both) for both in zip(self.evaluated, self.rows, strict=True)]

    def tokens_by_level(self) -> dict[float, list[float | None]]:
        """Returns for round dev nlls the target tokens after which each run was there."""
        curves = [evaluated.learning_curve() for evaluated in self.evaluated]
        return {
            level: [tokens_to_reach(curve, level) for curve in curves] for level in levels(curves)
        }

    def routing(self) -> dict[str, dict[str, float]]:
        """Returns by name, of runs that route, the means over layers at the evaluated step."""
        found = {each.name: mean_routing(each) for each in self.evaluated}
        return {name: mean for name, mean in found.items() if mean}

    def strangers(self) -> list[str]:
        """Returns the runs whose data, and so maybe subwords, are not those of the first."""
        first, *others = self.evaluated
        own = first.run.data_fingerprint
        return [other.name for other in others if other.run.data_fingerprint != own]


def put_side_by_side(
    several: Sequence[Evaluated], tell: Callable[[], Any] = lambda: None
) -> SideBySide:
    """Scores and compares every language; calls `tell` after each of a run.

    Buckets are by the first run's own training pairs. Raises DataError for other references.
    """
    check_same_references(several)
    first, *others = several = name_apart(several)
    all_rows = []
    for evaluated in several:
        scores, comparisons = {}, {}
        for pair, wanted in first.references.items():
            own = evaluated.hypotheses[pair]
            scores[pair] = score(own, wanted)
            if evaluated is not first:
                comparisons[pair] = compare(own, first.hypotheses[pair], wanted)
            tell()
        all_rows.append(tables.make_rows(scores, first.run.train_pairs, comparisons))
    return SideBySide((first, *others), tuple(all_rows))


def _summary(evaluated: Evaluated, rows: tuple[Row, ...]) -> dict[str, Any]:
    compared = [(row.pair, row.comparison) for row in rows if row.comparison]
    sure = [(pair, comparison) for pair, comparison in compared if comparison.is_significant]
    names = ("name", "checkpoint", "step", "parameters", "active_parameters")
    summary = {name: getattr(evaluated, name) for name in names} | {
        "target_tokens": evaluated.target_tokens(),
        "seconds": evaluated.seconds(),
        "dev_nll": evaluated.dev_nll(),
        "averages": tables.averages(rows),
    }
    if compared:
        summary["better"] = [pair for pair, comparison in sure if comparison.delta_bleu > 0]
        summary["worse"] = [pair for pair, comparison in sure if comparison.delta_bleu < 0]
    return summary


def levels(curves: Sequence[Curve]) -> list[float]:
    """Returns the lowest few round dev nlls that a run reached and none had at its first
    evaluation; their distance is the widest of 1, 0.5, 0.2, ... nats with so many between.
    """
    known = [[nll for _, nll in curve] for curve in curves if curve]
    if not known:
        return []
    lowest, highest = min(map(min, known)), min(nlls[0] for nlls in known)
    found: list[float] = []
    for step in _LEVEL_STEPS:
        first = math.ceil(round(lowest / step, 6))
        found = [round(number * step, 2) for number in range(first, first + MOST_LEVELS)]
        found = [level for level in found if level < highest]
        if len(found) >= FEWEST_LEVELS:
            break
    return found[::-1]


def tokens_to_reach(curve: Curve, level: float) -> float | None:
    """Returns after how many tokens a run was first at a level or below; None where it never was.

    Between two evaluations the loss is taken to fall in a line.
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


def mean_routing(evaluated: Evaluated) -> dict[str, float]:
    """Returns the means over MoE layers of what the router did; `{}` for a dense run.

    `sent_to_0`, `sent_to_1`, `sent_to_2` and `sent_to_more` are shares of tokens, `max_load` is the
    busiest expert's over an even one, `entropy` is in nats a token.
    """
    layers = [summarize(line) for line in evaluated.history.routing_of(evaluated.step)]
    if not layers:
        return {}
    keys = ("sent_to_0", "sent_to_1", "sent_to_2", "max_load", "entropy")
    means = {key: sum(layer.get(key, 0.0) for layer in layers) / len(layers) for key in keys}
    return means | {"sent_to_more": max(0.0, 1 - sum(means[key] for key in keys[:3]))}


def to_json(side: SideBySide) -> dict[str, Any]:
    """Returns what `comparison.json` holds."""
    levels = side.tokens_by_level().items()
    return {
        "format_version": FORMAT_VERSION,
        "split": side.evaluated[0].split,
        "signatures": signatures(),
        "runs": side.summaries(),
        "rows": [_fields_of_pair(side, number) for number in range(len(side.rows[0]))],
        "tokens_to_reach": [{"dev_nll": level, "target_tokens": each} for level, each in levels],
        "routing": side.routing(),
        "other_data": side.strangers(),
    }


def _fields_of_pair(side: SideBySide, number: int) -> dict[str, Any]:
    names = ("pair", "language", "train_pairs", "bucket", "sentences")
    fields = {name: getattr(side.rows[0][number], name) for name in names}
    of_run = {
        evaluated.name: {
            key: value for key, value in rows[number].to_fields().items() if key not in names
        }
        for evaluated, rows in zip(side.evaluated, side.rows, strict=True)
    }
    return {**fields, "runs": of_run}
