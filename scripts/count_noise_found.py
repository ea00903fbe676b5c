"""Counts by kind of noise what the filters drop of a corpus that add_noise.py made.

    python scripts/count_noise_found.py NOISY [--only numbers] > counts.md

The first reason that applies is counted, as in preparing; duplicates and lengths in subwords are
not looked at. --only switches off all filters but one.
"""
# SPDX-License-Identifier: Apache-2.0

import argparse
import pathlib
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from gshard_mt.config.records import CleaningConfig
from gshard_mt.data.cleaning.clean import REASONS, clean
from gshard_mt.data.corpora.recipe import Recipe, load_recipe
from gshard_mt.data.prepare.blocks import read_blocks
from gshard_mt.data.prepare.samples import (
    calibrate_sample,
    draw_samples,
    load_calibration,
    needs_samples,
)
from gshard_mt.errors import ConfigError, UserError

ALWAYS = ("too_long", "empty")
Counts = Mapping[str, Counter[str]]  # label -> reason, "" for kept pairs -> pairs


def only(name: str) -> CleaningConfig:
    """Returns settings with one filter on, or all of them if no name is given."""
    switches = [reason for reason in REASONS if reason not in ALWAYS]
    if not name:
        return CleaningConfig()
    if name not in switches:
        raise ConfigError(f"--only: found {name!r}, accepted: {', '.join(switches)}")
    others = {switch: switch == name for switch in switches}
    return CleaningConfig(max_characters=0, max_length_ratio=0.0, **others)


def count(recipe: Recipe, config: CleaningConfig) -> Counts:
    """Returns the number of training pairs of each label that are dropped for each reason."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for label, reason in _found(recipe, config):
        counts[label][reason] += 1
    return counts


def _found(recipe: Recipe, config: CleaningConfig) -> Iterator[tuple[str, str]]:
    entries = [(n, entry) for n, entry in enumerate(recipe.entries) if entry.split == "train"]
    names = ["", *REASONS]
    with tempfile.TemporaryDirectory() as folder:
        place = pathlib.Path(folder)
        samples = [
            sample
            for number, entry in entries
            if needs_samples(entry, config)
            for sample in draw_samples(entry, number, place)
        ]
        calibrations = {s.corpus: calibrate_sample(s, samples, config) for s in samples}
        for number, entry in entries:
            labels = iter(_labels(entry.path))
            stored = calibrations.get(number)
            calibration = load_calibration(stored) if stored else None
            for raw in read_blocks(entry, number):
                found = clean(raw.source, raw.english, raw.tag, config, calibration)
                for reason in found.reason.tolist():
                    yield next(labels), names[reason]


def _labels(path: pathlib.Path) -> list[str]:
    try:
        return path.with_suffix(".labels").read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(
            f"{path.with_suffix('.labels')}: {error.strerror}; accepted: a corpus of add_noise.py"
        ) from None


def table(counts: Counts) -> str:
    """Returns a table in Markdown: a row for each label, shares by reason in columns."""
    reasons = [name for name in REASONS if any(found[name] for found in counts.values())]
    columns = ["noise", "pairs", "dropped", *reasons]
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)]]
    for label in sorted(counts):
        found, total = counts[label], counts[label].total()
        shares = [total - found[""], *(found[name] for name in reasons)]
        lines.append([label, f"{total:,}", *(f"{100 * n / total:.2f}%" for n in shares)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", type=pathlib.Path)
    parser.add_argument("--only", default="", help="a key of data.cleaning")
    flags = parser.parse_args()
    try:
        print(table(count(load_recipe(flags.corpus / "recipe.toml"), only(flags.only))))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
