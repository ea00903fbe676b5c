"""An evaluation's table: a row per language pair and averages by bucket, in four forms."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gshard_mt import languages
from gshard_mt.documents import write_json
from gshard_mt.evaluate.scores import SIGNIFICANCE, Comparison, Resampled, Score, interval
from gshard_mt.evaluate.test_sets import Leak
from gshard_mt.report.tables import Table, to_csv

FORMAT_VERSION = 1
BUCKETS = ("high", "mid", "low")
_AVERAGED = ("bleu", "chrf", "baseline_bleu", "delta_bleu")
_SCORED = ("sentences", "bleu", "bleu_low", "bleu_high", "chrf")
_COMPARED = ("baseline_bleu", "delta_bleu", "p_value")


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One language pair: a line of `table.csv` and an object in `table.json`."""

    pair: str  # `de-en`
    language: str  # `German`
    train_pairs: int
    bucket: str  # one of BUCKETS
    score: Score
    comparison: Comparison | None = None
    leak: Leak | None = None

    def to_fields(self) -> dict[str, Any]:
        """Returns the columns by name; those of a comparison or a leak only if there was one."""
        names = ("pair", "language", "train_pairs", "bucket")
        fields: dict[str, Any] = {name: getattr(self, name) for name in names}
        fields |= {name: getattr(self.score, name) for name in _SCORED} | dict(self.score.extra)
        if self.comparison:
            fields |= {name: getattr(self.comparison, name) for name in _COMPARED}
        if self.leak:
            fields |= {"leaked_sources": self.leak.sources, "leaked_english": self.leak.english}
        return fields


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """One checkpoint's scores on one split; rows run from the most training pairs to the fewest."""

    step: int
    split: str
    parameters: int
    active_parameters: int  # those used for one token
    signatures: Mapping[str, str]
    rows: tuple[ScoreRow, ...]
    run: str = ""  # its directory, of a table that is not in it


def buckets(train_pairs: Mapping[str, int]) -> dict[str, str]:
    """Returns each language pair's bucket by its rank in training pairs: a quarter, half, quarter.

    The paper has 25 high, 52 mid and 25 low of 102 languages. Of two or three language pairs, the
    first is high and the last low; a single one is mid. Equal counts rank by name.
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
) -> tuple[ScoreRow, ...]:
    """Returns a row for every scored language pair, from high to low resource.

    `train_pairs` counts the training pairs of every language pair that the run was trained on,
    scored or not: the buckets come from all of them. One that was never trained on is low.
    """
    counts = {**dict.fromkeys(scores, 0), **train_pairs}
    bucket = {**dict.fromkeys(scores, "low"), **buckets(train_pairs)}
    return tuple(
        ScoreRow(
            pair=pair,
            language=languages.english_name(languages.source_language(pair)),
            train_pairs=counts[pair],
            bucket=bucket[pair],
            score=scores[pair],
            comparison=(comparisons or {}).get(pair),
            leak=(leaks or {}).get(pair),
        )
        for pair in sorted(scores, key=lambda pair: (-counts[pair], pair))
    )


def averages(rows: Sequence[ScoreRow]) -> dict[str, dict[str, float]]:
    """Returns the mean BLEU and chrF over all rows and over each bucket; `{}` for an empty one.

    With a baseline, also its mean BLEU and the mean difference. If the rows have resampled BLEU,
    `bleu_low` and `bleu_high`, `delta_low` and `delta_high` are the 95% intervals of these means,
    with every language resampled independently.
    """
    groups = {name: [row for row in rows if row.bucket == name] for name in BUCKETS}
    return {name: _average(group) for name, group in {"all": rows, **groups}.items()}


def shown_averages(rows: Sequence[ScoreRow]) -> dict[str, dict[str, float]]:
    """Returns the averages that say more than the rows: none of one row, none of all rows twice."""
    means = averages(rows)
    counts = {name: sum(row.bucket == name for row in rows) for name in BUCKETS}
    names = [name for name, count in counts.items() if 1 < count < len(rows)]
    return {name: means[name] for name in (["all", *names] if len(rows) > 1 else [])}


def _average(rows: Sequence[ScoreRow]) -> dict[str, float]:
    if not rows:
        return {}
    fields = [row.to_fields() for row in rows]
    names = [*_AVERAGED, *rows[0].score.extra]
    names = [name for name in names if all(name in line for line in fields)]
    means = {name: sum(line[name] for line in fields) / len(fields) for name in names}
    own = _mean_resampled([row.score.resampled for row in rows])
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


def write(table: ScoreTable, folder: pathlib.Path) -> None:
    """Writes `table.md`, `table.csv` and `table.json` into the folder; creates it if necessary."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.md").write_text(to_markdown(table), encoding="utf-8")
    lines = to_csv([row.to_fields() for row in table.rows])
    (folder / "table.csv").write_text(lines, encoding="utf-8", newline="")
    write_json(folder / "table.json", to_json(table), ensure_ascii=False, indent=2)


def to_json(table: ScoreTable) -> dict[str, Any]:
    """Returns the content of `table.json`."""
    names = ("step", "split", "parameters", "active_parameters")
    return {
        "format_version": FORMAT_VERSION,
        **{name: getattr(table, name) for name in names},
        "signatures": dict(table.signatures),
        "rows": [row.to_fields() for row in table.rows],
        "averages": averages(table.rows),
        **({"run": table.run} if table.run else {}),
    }


def to_markdown(table: ScoreTable) -> str:
    """Returns the table as Markdown with its averages and signatures."""
    lines = [
        f"# {table.split}, step {table.step}",
        "",
        f"{table.parameters:,} parameters, {table.active_parameters:,} active for a token. "
        "BLEU with its 95 % bootstrap interval.",
        "",
        *formatted(table).to_markdown(),
        "",
        *(f"- {line}" for line in [*differences(table.rows), *leaks(table.rows)]),
        *(f"- {name}: `{signature}`" for name, signature in table.signatures.items()),
    ]
    return "\n".join(lines) + "\n"


def to_text(table: ScoreTable) -> str:
    """Returns the table in aligned columns for a terminal, signatures below."""
    lines = [*formatted(table).to_text(), *differences(table.rows), *leaks(table.rows)]
    lines += [f"{name}: {signature}" for name, signature in table.signatures.items()]
    return "\n".join(lines) + "\n"


def beside(tables: Sequence[ScoreTable]) -> str:
    """Returns the averages of several test sets and their differences from the first, as text."""
    means = [averages(table.rows)["all"] for table in tables]
    rows = [
        [table.split, *(f"{mean[name]:.1f}" for name in ("bleu", "chrf"))]
        + ([f"{mean['bleu'] - means[0]['bleu']:+.1f}"] if number else [""])
        for number, (table, mean) in enumerate(zip(tables, means, strict=True))
    ]
    found = Table(["sentences", "BLEU", "chrF", "difference"], rows, text_columns=(0,))
    return "\n".join(found.to_text()) + "\n"


def differences(rows: Sequence[ScoreRow]) -> list[str]:
    """Returns sentences on which language pairs are better or worse; `[]` without a baseline."""
    compared = [(row.pair, row.comparison) for row in rows if row.comparison]
    if not compared:
        return []
    lines = []
    for word, sign in (("better", 1), ("worse", -1)):
        pairs = [pair for pair, it in compared if it.is_significant and sign * it.delta_bleu > 0]
        names = f": {', '.join(pairs)}" if pairs else ""
        count = f"{len(pairs)} of {len(compared)}{names}"
        lines.append(f"{word} than the baseline at p < {SIGNIFICANCE}: {count}")
    mean = averages(rows)["all"]
    if "delta_low" in mean:
        lines.append(
            f"average difference: {mean['delta_bleu']:+.1f}, "
            f"95 % between {mean['delta_low']:+.1f} and {mean['delta_high']:+.1f}"
        )
    return lines


def leaks(rows: Sequence[ScoreRow]) -> list[str]:
    """Returns a sentence on the test sentences found in training; `[]` if nobody looked."""
    checked = [(row.pair, row.score.sentences, row.leak) for row in rows if row.leak]
    if not checked:
        return []
    found = [
        f"{pair} {leak.sources} sources and {leak.english} English of {number}"
        for pair, number, leak in checked
        if leak.sources or leak.english
    ]
    missing = "" if all(leak.is_whole for _, _, leak in checked) else ", as far as they were found"
    return [f"in the training data{missing}: {', '.join(found) or 'none of these sentences'}"]


def formatted(table: ScoreTable) -> Table:
    """Returns the rows with the averages as footer, rounded as sacreBLEU prints numbers."""
    columns = {
        "pair": "{pair}",
        "language": "{language}",
        "train pairs": "{train_pairs:,}",
        "bucket": "{bucket}",
        "sentences": "{sentences}",
        "BLEU": "{bleu:.1f}",
        "95 %": "{bleu_low:.1f}-{bleu_high:.1f}",
        "chrF": "{chrf:.1f}",
    } | {name: f"{{{name}:.1f}}" for name in table.rows[0].score.extra}
    if any(row.comparison for row in table.rows):
        columns |= {"baseline": "{baseline_bleu:.1f}", "delta": "{delta_bleu:+.1f}"}
        columns["p"] = "{p_value:.4f}"

    def cells(fields: Mapping[str, Any]) -> list[str]:
        return [_format(form, fields) for form in columns.values()]

    means = shown_averages(table.rows)
    return Table(
        head=list(columns),
        rows=[cells(row.to_fields()) for row in table.rows],
        text_columns=(0, 1, 3),
        footer=[cells({"pair": "average", "bucket": name, **means[name]}) for name in means],
    )


def _format(form: str, fields: Mapping[str, Any]) -> str:
    try:
        return form.format_map(fields)
    except KeyError:  # an average has no language, a row without a baseline no delta
        return ""
