"""The evaluations of an exported step, as `gshard-eval` left them in the run directory."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gshard_mt.documents import read_json
from gshard_mt.errors import DataError
from gshard_mt.report.tables import Table

TABLE_VERSION = 1  # of table.json; `evaluate`, which writes it, is a floor above
METRICS = {"bleu": "BLEU", "chrf": "chrF"}  # names by their keys in table.json


class Evaluated(NamedTuple):
    """One language pair's scores on one test set; BLEU and chrF run from 0 to 100."""

    test_set: str
    pair: str
    language: str  # `German`
    sentences: int
    scores: Mapping[str, float]  # by the keys of METRICS
    signatures: Mapping[str, str]  # sacreBLEU's, by the same keys
    bleu_low: float  # the 95% interval
    bleu_high: float
    leaked: int | None  # sources that are in the training data; None: nobody looked


def read_evaluations(workdir: pathlib.Path, checkpoint: str) -> list[Evaluated]:
    """Reads `eval/<checkpoint>/*/table.json`; a test set without one was not evaluated to the end.

    Raises DataError for a table that can't be read.
    """
    remedy = "run gshard-eval again, or delete the folder"
    found = []
    for path in sorted((workdir / "eval" / checkpoint).glob("*/table.json")):
        table = read_json(path, TABLE_VERSION, DataError, remedy)
        try:
            found += [
                Evaluated(
                    test_set=str(table["split"]),
                    pair=str(row["pair"]),
                    language=str(row["language"]),
                    sentences=int(row["sentences"]),
                    scores={metric: float(row[metric]) for metric in METRICS},
                    signatures={metric: str(table["signatures"][metric]) for metric in METRICS},
                    bleu_low=float(row["bleu_low"]),
                    bleu_high=float(row["bleu_high"]),
                    leaked=row.get("leaked_sources"),
                )
                for row in table["rows"]
            ]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{path}: incomplete ({error!r}); {remedy}") from None
    return found


def tabulate_scores(evaluations: Sequence[Evaluated]) -> Table:
    """Returns the scores as a table, rounded as sacreBLEU prints them."""
    head = ["test set", "pair", "language", "sentences", "BLEU", "95 %", "chrF", "in training"]
    rows = [
        [
            each.test_set,
            each.pair,
            each.language,
            f"{each.sentences:,}",
            f"{each.scores['bleu']:.1f}",
            f"{each.bleu_low:.1f}-{each.bleu_high:.1f}",
            f"{each.scores['chrf']:.1f}",
            "" if each.leaked is None else f"{each.leaked}",
        ]
        for each in evaluations
    ]
    if all(each.leaked is None for each in evaluations):
        head, rows = head[:-1], [row[:-1] for row in rows]
    return Table(head, rows, text_columns=(0, 1, 2))


def list_signatures(evaluations: Sequence[Evaluated]) -> list[tuple[str, str]]:
    """Returns each metric's name with each signature that it has."""
    return list(
        dict.fromkeys(
            (name, each.signatures[metric])
            for metric, name in METRICS.items()
            for each in evaluations
        )
    )
