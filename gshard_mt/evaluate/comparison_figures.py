"""Which pictures runs side by side have: their learning curves, and who gained where."""
# SPDX-License-Identifier: Apache-2.0

from collections.abc import Iterator

from gshard_mt.evaluate.comparison import SideBySide
from gshard_mt.report import pictures
from gshard_mt.report.page import Figure


def draw(side: SideBySide) -> Iterator[Figure]:
    """Yields the pictures for which there are figures."""
    curves = {each.name: each.learning_curve() for each in side.evaluated}
    if curves := {name: curve for name, curve in curves.items() if curve}:
        picture = pictures.learning_curves(curves)
        yield Figure("tokens", "learning_curves", "Dev nll by target tokens", picture)
    first, *others = side.evaluated
    if others:
        gains = {
            other.name: [row.comparison.delta_bleu for row in rows if row.comparison]
            for other, rows in zip(others, side.rows[1:], strict=True)
        }
        sizes = [row.train_pairs for row in side.rows[0]]
        picture = pictures.gains(sizes, gains, f"BLEU above {first.name}")
        yield Figure("languages", "bleu_gain", "BLEU gained, by training pairs", picture)
