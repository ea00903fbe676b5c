"""The report of a preparation: counts, drops with samples, lengths, sampling shares."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
from collections.abc import Mapping
from typing import Any

from gshard_mt.data.mixture import temperature_shares
from gshard_mt.data.prepare.drops import Drops
from gshard_mt.data.prepare.shards import LENGTH_BIN, SideCounts, SplitCounts
from gshard_mt.languages import english_name, source_language
from gshard_mt.report.page import Page, Section, to_markdown, write_page
from gshard_mt.report.tables import Table

_TEMPERATURES = (1.0, 5.0, 100.0)

Counts = Mapping[str, Mapping[str, SplitCounts]]  # language -> split


def write_reports(
    data_dir: pathlib.Path, manifest: Mapping[str, Any], drops: Drops, counts: Counts
) -> None:
    """Writes report.md and report.html, in which the corpus text is escaped."""
    pairs = manifest["pairs"]
    total = sum(info["train"]["pairs"] for info in pairs.values())
    sources = {language: splits["train"].source for language, splits in counts.items()}
    targets = {language: splits["train"].target for language, splits in counts.items()}
    tables = {
        "Pairs": _pairs(pairs),
        "Dropped pairs by reason": _drops(pairs),
        "Samples of dropped pairs": _samples(drops),
        "The vocabulary on the training text": _vocabulary(sources, targets),
        "Shares of the training stream by temperature": _shares(
            pairs, manifest["config"]["temperature"]
        ),
        "Source lengths: training pairs by subwords": _lengths(sources),
        "Target lengths: training pairs by subwords": _lengths(targets),
        "Training pairs by corpus": _training_corpora(pairs),
        "Corpora": _corpora(manifest),
    }
    sections = [
        Section(f"table{number}", title, table=table)
        for number, (title, table) in enumerate(tables.items(), 1)
    ]
    if manifest["notes"]:
        sections.insert(2, Section("notes", "What cleaning noticed", notes=manifest["notes"]))
    page = Page(
        title=f"Prepared data: {manifest['recipe']['name']}",
        lead=f"{total} training pairs, {len(pairs)} languages to English. "
        f"{_describe_tokenizer(manifest['tokenizer'])}.",
        sections=sections,
    )
    (data_dir / "report.md").write_text(to_markdown(page), encoding="utf-8")
    write_page(page, data_dir / "report.html")


def counts_table(pairs: Mapping[str, Any]) -> str:
    """Returns as text how many pairs each language has and how many were dropped, largest first."""
    table = _pairs(pairs)
    drops = [pairs[row[0]]["drops"] for row in table.rows]
    numbers = [sum(each.values()) for each in drops]
    reasons = [max(each, key=lambda reason: each[reason], default="") for each in drops]
    head = [*table.head[:5], "dropped", "most as"]
    rows = [
        [*row[:5], str(number), reason if number else ""]
        for row, number, reason in zip(table.rows, numbers, reasons, strict=True)
    ]
    return "\n".join(Table(head, rows, text_columns=(0, 1, 6)).to_text())


def _describe_tokenizer(tokenizer: Mapping[str, Any]) -> str:
    text = f"Tokenizer {tokenizer['hash'][:16]}"
    if old := tokenizer.get("extended_from"):
        text += f", made of {old['hash'][:16]}, which has " + " and ".join(
            f"{old[f'{side}_size']:,} of the {tokenizer[f'{side}_size']:,} {side} subwords"
            for side in ("source", "target")
        )
    return text


def _pairs(pairs: Mapping[str, Any]) -> Table:
    head = ["pair", "language", "train", "dev", "test", "source tokens", "target tokens"]
    ranked = sorted(pairs.items(), key=lambda item: (-item[1]["train"]["pairs"], item[0]))
    rows = [
        [
            pair,
            english_name(source_language(pair)),
            *(str(info[split]["pairs"]) for split in ("train", "dev", "test")),
            *(str(info["train"][key]) for key in ("source_tokens", "target_tokens")),
        ]
        for pair, info in ranked
    ]
    return Table(head, rows, text_columns=(0, 1))


def _drops(pairs: Mapping[str, Any]) -> Table:
    reasons = sorted({reason for info in pairs.values() for reason in info["drops"]})
    rows = [
        [pair, *(str(info["drops"].get(reason, 0)) for reason in reasons)]
        for pair, info in pairs.items()
    ]
    return Table(["pair", *reasons], rows)


def _samples(drops: Drops) -> Table:
    rows = [
        [f"{language}-en", reason, str(pair.id), pair.source, pair.english]
        for language, reasons in drops.by_reason().items()
        for reason, found in reasons.items()
        for pair in found.samples
    ]
    return Table(["pair", "reason", "id", "source", "English"], rows, text_columns=(0, 1, 3, 4))


def _vocabulary(sources: Mapping[str, SideCounts], targets: Mapping[str, SideCounts]) -> Table:
    head = ["pair", "source tokens per word", "per character", "unknown characters"]
    head += ["English tokens per word", "unknown characters"]
    rows = [
        [
            f"{language}-en",
            _ratio(source.tokens, source.words),
            _ratio(source.tokens, source.characters),
            _percent(source.unknown, source.characters),
            _ratio(target.tokens, target.words),
            _percent(target.unknown, target.characters),
        ]
        for (language, source), target in zip(sources.items(), targets.values(), strict=True)
    ]
    return Table(head, rows)


def _shares(pairs: Mapping[str, Any], temperature: float) -> Table:
    temperatures = sorted({*_TEMPERATURES, float(temperature)})
    counts = [info["train"]["pairs"] for info in pairs.values()]
    shares = zip(*(temperature_shares(counts, each) for each in temperatures), strict=True)
    rows = [
        [pair, *(f"{share:.2%}" for share in each)]
        for pair, each in zip(pairs, shares, strict=True)
    ]
    return Table(["pair", *(f"T = {each:g}" for each in temperatures)], rows)


def _lengths(sides: Mapping[str, SideCounts]) -> Table:
    bins = range(max((1 + number for side in sides.values() for number in side.lengths), default=0))
    rows = [
        [f"{language}-en", *(str(side.lengths[number]) for number in bins)]
        for language, side in sides.items()
    ]
    head = [f"{number * LENGTH_BIN}-{(number + 1) * LENGTH_BIN - 1}" for number in bins]
    return Table(["pair", *head], rows)


def _corpora(manifest: Mapping[str, Any]) -> Table:
    keys = ["name", "source", "split", "license"]
    rows = [
        [*(corpus[key] for key in keys), " ".join(corpus["languages"])]
        for corpus in manifest["recipe"]["corpora"]
    ]
    return Table([*keys, "languages"], rows, text_columns=range(5))


def _training_corpora(pairs: Mapping[str, Any]) -> Table:
    rows = [
        [pair, corpus["name"], f"{corpus['pairs']}", f"{corpus['weight']:g}"]
        for pair, info in pairs.items()
        for corpus in info["train"]["corpora"]
    ]
    return Table(["pair", "corpus", "training pairs", "weight"], rows, text_columns=(0, 1))


def _ratio(value: int, total: int) -> str:
    return f"{value / total:.2f}" if total else ""


def _percent(value: int, total: int) -> str:
    return f"{value / total:.3%}" if total else ""
