"""An evaluation's table: a row a pair, averages by bucket, as Markdown, CSV, JSON and text."""
# SPDX-License-Identifier: Apache-2.0

import csv
import dataclasses
import io
import json
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gshard_mt import languages
from gshard_mt.evaluate.scores import LEVEL, Comparison, Resampled, Score, interval
from gshard_mt.evaluate.test_sets import Leak
from gshard_mt.report import tables as cells

FORMAT_VERSION = 1
BUCKETS = ("high", "mid", "low")
AVERAGED = ("bleu", "chrf", "baseline_bleu", "delta_bleu")
_COMPARED = ("baseline_bleu", "delta_bleu", "p_value")
_SCORE_FIELDS = dataclasses.fields(Score)


@dataclass(frozen=True, slots=True)
class Row:
    """One pair's line; its fields are the columns of `table.csv` and the keys in `table.json`."""

    pair: str  # `de-en`
    language: str  # `German`
    train_pairs: int
    bucket: str  # one of BUCKETS
    sentences: int
    bleu: float
    bleu_low: float
    bleu_high: float
    chrf: float
    more: Mapping[str, float] = dataclasses.field(default_factory=dict)  # further metrics
    comparison: Comparison | None = None  # its fields are columns and keys, too
    leak: Leak | None = None
    resampled: Resampled = None  # BLEU

    def to_fields(self) -> dict[str, Any]:
        """Returns the row as columns; those of a comparison or a leak only if there was one."""
        parts = ("more", "comparison", "leak", "resampled")
        names = [field.name for field in dataclasses.fields(self) if field.name not in parts]
        fields = {name: getattr(self, name) for name in names} | dict(self.more)
        if self.comparison:
            fields |= {name: getattr(self.comparison, name) for name in _COMPARED}
        if self.leak:
            fields |= {"leaked_sources": self.leak.sources, "leaked_english": self.leak.english}
        return fields


@dataclass(frozen=True, slots=True)
class Table:
    """One checkpoint's scores on one split; rows run from the most training pairs to the fewest."""

    step: int
    split: str
    parameters: int
    active_parameters: int  # those that one token meets
    signatures: Mapping[str, str]
    rows: tuple[Row, ...]


def buckets(train_pairs: Mapping[str, int]) -> dict[str, str]:
    """Returns each pair's bucket by its rank in training pairs: a quarter, a half, a quarter.

    That is the paper's 25 high, 52 mid and 25 low of 102 languages. Of two or three pairs the first
    is high and the last low; one pair alone is mid. Equal counts rank by name.
    """
    ranked = sorted(train_pairs, key=lambda pair: (-train_pairs[pair], pair))
    num_edge = max(1, len(ranked) // 4) if len(ranked) > 1 else 0
    num_mid = len(ranked) - 2 * num_edge
    names = ["high"] * num_edge + ["mid"] * num_mid + ["low"] * num_edge
    return dict(zip(ranked, names, strict=True))


def make_rows(
    scores: Mapping[str, Score],
    train_pairs: Mapping[str, int],
    comparisons: Mapping[str, Comparison] | None = None,
    leaks: Mapping[str, Leak] | None = None,
) -> tuple[Row, ...]:
    """Returns a row for every scored pair, from high to low resource.

    `train_pairs` counts this run's training pairs of every pair it was trained on, scored or not:
    the buckets come from all of them. A pair it doesn't have was never trained on and is low.
    """
    counts = {**dict.fromkeys(scores, 0), **train_pairs}
    bucket = {**dict.fromkeys(scores, "low"), **buckets(train_pairs)}
    return tuple(
        Row(
            pair=pair,
            language=languages.english_name(languages.source_language(pair)),
            train_pairs=counts[pair],
            bucket=bucket[pair],
            **{field.name: getattr(scores[pair], field.name) for field in _SCORE_FIELDS},
            comparison=(comparisons or {}).get(pair),
            leak=(leaks or {}).get(pair),
        )
        for pair in sorted(scores, key=lambda pair: (-counts[pair], pair))
    )


def averages(rows: tuple[Row, ...]) -> dict[str, dict[str, float]]:
    """Returns the mean BLEU and chrF over all pairs and over each bucket; `{}` for an empty one.

    With a baseline, its mean BLEU and that of the differences, too. Where the rows know their
    resampled test sets, `bleu_low` and `bleu_high`, `delta_low` and `delta_high` are the intervals
    of these means, each language resampled by itself.
    """
    groups = {"all": rows}
    groups |= {name: tuple(row for row in rows if row.bucket == name) for name in BUCKETS}
    return {name: _average(group) for name, group in groups.items()}


def _average(rows: tuple[Row, ...]) -> dict[str, float]:
    if not rows:
        return {}
    fields = [row.to_fields() for row in rows]
    names = [*AVERAGED, *rows[0].more]
    names = [name for name in names if all(name in line for line in fields)]
    means = {name: sum(line[name] for line in fields) / len(fields) for name in names}
    own = _mean_resampled([row.resampled for row in rows])
    others = _mean_resampled([row.comparison and row.comparison.resampled for row in rows])
    if own is not None:
        means["bleu_low"], means["bleu_high"] = interval(means["bleu"], own)
    if own is not None and others is not None:
        deltas = own - others
        means["delta_low"], means["delta_high"] = interval(means["delta_bleu"], deltas, -100.0)
    return means


def _mean_resampled(each: Sequence[Resampled]) -> Resampled:
    known = [resampled for resampled in each if resampled is not None]
    return np.mean(known, axis=0) if len(known) == len(each) else None


def write(table: Table, folder: pathlib.Path) -> None:
    """Writes `table.md`, `table.csv` and `table.json` into the folder, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.md").write_text(to_markdown(table), encoding="utf-8")
    (folder / "table.csv").write_text(to_csv(table), encoding="utf-8", newline="")
    text = json.dumps(to_json(table), ensure_ascii=False, indent=2)
    (folder / "table.json").write_text(text + "\n", encoding="utf-8")


def to_json(table: Table) -> dict[str, Any]:
    """Returns what `table.json` holds."""
    names = ("step", "split", "parameters", "active_parameters")
    return {
        "format_version": FORMAT_VERSION,
        **{name: getattr(table, name) for name in names},
        "signatures": dict(table.signatures),
        "rows": [row.to_fields() for row in table.rows],
        "averages": averages(table.rows),
    }


def to_csv(table: Table) -> str:
    """Returns the rows with a head line; a field with a comma or a quote is quoted."""
    text = io.StringIO()
    rows = [row.to_fields() for row in table.rows]
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def to_markdown(table: Table) -> str:
    """Returns the table as Markdown with its averages and signatures."""
    lines = [
        f"# {table.split}, step {table.step}",
        "",
        f"{table.parameters:,} parameters, {table.active_parameters:,} active for a token. "
        "BLEU with its 95 % bootstrap interval.",
        "",
        *cells.to_markdown(_cells(table), _TEXT_COLUMNS),
        "",
        *(f"- {line}" for line in [*differences(table.rows), *leaks(table.rows)]),
        *(f"- {name}: `{signature}`" for name, signature in table.signatures.items()),
    ]
    return "\n".join(lines) + "\n"


def differences(rows: tuple[Row, ...]) -> list[str]:
    """Returns in words which pairs got better or worse than the baseline; nothing without one."""
    compared = [(row.pair, row.comparison) for row in rows if row.comparison]
    if not compared:
        return []
    lines = []
    for word, sign in (("better", 1), ("worse", -1)):
        pairs = [pair for pair, it in compared if it.is_significant and sign * it.delta_bleu > 0]
        names = f": {', '.join(pairs)}" if pairs else ""
        lines.append(
            f"{word} than the baseline at p < {LEVEL}: {len(pairs)} of {len(compared)}{names}"
        )
    mean = averages(rows)["all"]
    if "delta_low" in mean:
        lines.append(
            f"average difference: {mean['delta_bleu']:+.1f}, "
            f"95 % between {mean['delta_low']:+.1f} and {mean['delta_high']:+.1f}"
        )
    return lines


def leaks(rows: tuple[Row, ...]) -> list[str]:
    """Returns in words what of a test set is in the training data; nothing if nobody looked."""
    looked = [(row.pair, row.sentences, row.leak) for row in rows if row.leak]
    if not looked:
        return []
    found = [
        f"{pair} {leak.sources} sources and {leak.english} English of {number}"
        for pair, number, leak in looked
        if leak.sources or leak.english
    ]
    return [f"in the training data: {', '.join(found) or 'none of these sentences'}"]


def to_text(table: Table) -> str:
    """Returns the table in aligned columns for a terminal, signatures below."""
    lines = cells.align(_cells(table), _TEXT_COLUMNS)
    lines.insert(2 + len(table.rows), lines[1])
    lines += [*differences(table.rows), *leaks(table.rows)]
    lines += [f"{name}: {signature}" for name, signature in table.signatures.items()]
    return "\n".join(lines) + "\n"


_TEXT_COLUMNS = (0, 1, 3)


def _cells(table: Table) -> list[list[str]]:
    """Returns head, rows and averages as text, numbers rounded as sacreBLEU prints them."""
    head = ["pair", "language", "train pairs", "bucket", "sentences", "BLEU", "95 %", "chrF"]
    rows = [
        [
            row.pair,
            row.language,
            f"{row.train_pairs:,}",
            row.bucket,
            str(row.sentences),
            f"{row.bleu:.1f}",
            _range(row.to_fields()),
            f"{row.chrf:.1f}",
        ]
        for row in table.rows
    ]
    groups = {name: mean for name, mean in averages(table.rows).items() if mean}
    means = [
        ["average", "", "", name, "", f"{mean['bleu']:.1f}", _range(mean), f"{mean['chrf']:.1f}"]
        for name, mean in groups.items()
    ]
    for name in table.rows[0].more:
        head.append(name)
        for line, row in zip(rows, table.rows, strict=True):
            line.append(f"{row.more[name]:.1f}")
        for line, mean in zip(means, groups.values(), strict=True):
            line.append(f"{mean[name]:.1f}")
    if any(row.comparison for row in table.rows):
        head += ["baseline", "delta", "p"]
        for line, row in zip(rows, table.rows, strict=True):
            line += _compared_cells(row.to_fields())
        for line, mean in zip(means, groups.values(), strict=True):
            line += _compared_cells(mean)
    return [head, *rows, *means]


def _range(fields: Mapping[str, Any]) -> str:
    if "bleu_low" not in fields:
        return ""
    return f"{fields['bleu_low']:.1f}-{fields['bleu_high']:.1f}"


def _compared_cells(fields: Mapping[str, Any]) -> list[str]:
    formats = {"baseline_bleu": ".1f", "delta_bleu": "+.1f", "p_value": ".4f"}
    return [format(fields[name], form) if name in fields else "" for name, form in formats.items()]
