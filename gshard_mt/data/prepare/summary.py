"""The report of a preparation: counts, drops with samples, lengths, sampling shares."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jinja2

from gshard_mt.data.mixture import temperature_shares
from gshard_mt.data.prepare.drops import Drops
from gshard_mt.data.prepare.shards import LENGTH_BIN, SideCounts, SplitCounts
from gshard_mt.languages import english_name, source_language

_TEMPERATURES = (1.0, 5.0, 100.0)

_MARKDOWN = """\
# {{ title }}

{{ summary }}
{% for table in tables %}
## {{ table.title }}

| {{ table.header | map("cell") | join(" | ") }} |
|{% for _ in table.header %}---|{% endfor %}
{% for row in table.rows -%}
| {{ row | map("cell") | join(" | ") }} |
{% endfor %}
{%- endfor %}"""

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{{ title }}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem }
table { border-collapse: collapse } td, th { border-bottom: 1px solid #ccc; padding: .2rem .8rem }
div { overflow-x: auto }
td { overflow-wrap: anywhere } th { text-align: left } td.number { text-align: right }
</style>
<h1>{{ title }}</h1>
<p>{{ summary }}</p>
{% for table in tables %}
<h2>{{ table.title }}</h2>
<div tabindex="0"><table>
<tr>{% for cell in table.header %}<th>{{ cell }}</th>{% endfor %}</tr>
{% for row in table.rows -%}
<tr>{% for cell in row -%}
<td dir="auto"{% if cell is number %} class="number"{% endif %}>{{ cell }}</td>{% endfor %}</tr>
{% endfor -%}
</table></div>
{% endfor %}
</html>
"""


class Table(NamedTuple):
    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Any]]


Counts = Mapping[str, Mapping[str, SplitCounts]]  # language -> split


def write_reports(
    data_dir: pathlib.Path, manifest: Mapping[str, Any], drops: Drops, counts: Counts
) -> None:
    """Writes report.md and report.html. The corpus' own text is escaped in both."""
    pairs = manifest["pairs"]
    train = {name: splits["train"] for name, splits in counts.items()}
    total = sum(info["train"]["pairs"] for info in pairs.values())
    content = {
        "title": f"Prepared data: {manifest['recipe']['name']}",
        "summary": f"{total} training pairs, {len(pairs)} languages to English. "
        f"Tokenizer {manifest['tokenizer']['hash'][:16]}.",
        "tables": [
            _counts(pairs),
            _drops(pairs),
            _samples(drops),
            _vocabulary(counts),
            _shares(pairs, manifest["config"]["temperature"]),
            _histogram("Source lengths", {name: each.source for name, each in train.items()}),
            _histogram("Target lengths", {name: each.target for name, each in train.items()}),
            _corpora(manifest),
        ],
    }
    environment = jinja2.Environment(autoescape=False, undefined=jinja2.StrictUndefined)
    environment.filters["cell"] = _cell
    markdown = environment.from_string(_MARKDOWN).render(content)
    (data_dir / "report.md").write_text(markdown + "\n", encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    page = environment.from_string(_PAGE).render(content)
    (data_dir / "report.html").write_text(page, encoding="utf-8")


def counts_table(pairs: Mapping[str, Any]) -> str:
    """Returns the pairs of each language as text, largest first."""
    table = _counts(pairs)
    rows = [table.header[:5], *(row[:5] for row in table.rows)]
    widths = [max(len(str(row[column])) for row in rows) for column in range(5)]
    lines = [
        "  ".join(
            f"{cell:<{width}}" if isinstance(cell, str) else f"{cell:>{width}}"
            for cell, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    ]
    return "\n".join(lines)


def _corpora(manifest: Mapping[str, Any]) -> Table:
    rows = [
        (corpus["source"], " ".join(corpus["languages"]), corpus["split"], corpus["license"])
        for corpus in manifest["recipe"]["corpora"]
    ]
    return Table("Corpora", ("source", "languages", "split", "license"), rows)


def _counts(pairs: Mapping[str, Any]) -> Table:
    header = ("pair", "language", "train", "dev", "test", "source tokens", "target tokens")
    rows = [
        (
            pair,
            english_name(source_language(pair)),
            *(info[split]["pairs"] for split in ("train", "dev", "test")),
            info["train"]["source_tokens"],
            info["train"]["target_tokens"],
        )
        for pair, info in pairs.items()
    ]
    return Table("Pairs", header, sorted(rows, key=lambda row: (-int(row[2]), row[0])))


def _shares(pairs: Mapping[str, Any], temperature: float) -> Table:
    temperatures = sorted({*_TEMPERATURES, float(temperature)})
    counts = [info["train"]["pairs"] for info in pairs.values()]
    shares = [temperature_shares(counts, each) for each in temperatures]
    rows = [
        (pair, *(f"{100 * each[index]:.2f}%" for each in shares))
        for index, pair in enumerate(pairs)
    ]
    header = ("pair", *(f"T = {each:g}" for each in temperatures))
    return Table("Shares of the training stream by temperature", header, rows)


def _drops(pairs: Mapping[str, Any]) -> Table:
    reasons = sorted({reason for info in pairs.values() for reason in info["drops"]})
    rows = [
        (pair, *(info["drops"].get(reason, 0) for reason in reasons))
        for pair, info in pairs.items()
    ]
    return Table("Dropped pairs by reason", ("pair", *reasons), rows)


def _samples(drops: Drops) -> Table:
    rows = [
        (f"{language}-en", reason, source[:200], english[:200])
        for (language, reason), samples in sorted(drops.samples.items())
        for source, english in samples
    ]
    return Table("Samples of dropped pairs", ("pair", "reason", "source", "English"), rows)


def _vocabulary(counts: Counts) -> Table:
    header = (
        "pair",
        "source tokens a word",
        "a character",
        "unknown characters",
        "English tokens a word",
        "unknown characters",
    )
    rows = []
    for language, splits in counts.items():
        source, target = splits["train"].source, splits["train"].target
        rows.append(
            (
                f"{language}-en",
                _ratio(source.tokens, source.words),
                _ratio(source.tokens, source.characters),
                _percent(source.unknown, source.characters),
                _ratio(target.tokens, target.words),
                _percent(target.unknown, target.characters),
            )
        )
    return Table("What the vocabulary makes of the training text", header, rows)


def _histogram(title: str, sides: Mapping[str, SideCounts]) -> Table:
    num_bins = max((len(side.lengths) for side in sides.values()), default=0)
    rows = [
        (f"{language}-en", *side.lengths.tolist(), *[0] * (num_bins - len(side.lengths)))
        for language, side in sides.items()
    ]
    bins = [f"{i * LENGTH_BIN}-{(i + 1) * LENGTH_BIN - 1}" for i in range(num_bins)]
    return Table(f"{title}: training pairs by subwords", ("pair", *bins), rows)


def _ratio(value: int, total: int) -> str:
    return f"{value / total:.2f}" if total else ""


def _percent(value: int, total: int) -> str:
    return f"{100 * value / total:.3f}%" if total else ""


def _cell(value: Any) -> str:
    text = str(value).replace("\\", "\\\\").replace("|", "\\|")
    return text.replace("<", "&lt;").replace("`", "\\`")
