"""What pruning costs: the dev scores of a run and of its export with fewer experts."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gshard_mt.config.records import MeshConfig
from gshard_mt.data.normalization import one_line
from gshard_mt.decode.loading import load_translator
from gshard_mt.errors import DataError
from gshard_mt.evaluate.evaluate import translate_all
from gshard_mt.evaluate.scores import Score, score
from gshard_mt.evaluate.test_sets import TestSet
from gshard_mt.model.blueprint import count_parameters
from gshard_mt.report.tables import Table
from gshard_mt.run.exported import read_trained


class _Evaluated(NamedTuple):
    scores: Mapping[str, Score]  # by language pair
    parameters: int
    seconds: float  # of translating, with compilation


def compare(workdir: pathlib.Path, exported: pathlib.Path, test: TestSet, step: str) -> Table:
    """Returns a table of both models' scores on the sentences of the export's languages.

    Both translate on all devices with the run's own search. Raises DataError if the test set has
    none of these languages.
    """
    pairs = [pair for pair in read_trained(exported).train_pairs if pair in test.pairs]
    if not pairs:
        raise DataError(f"the data have no {test.name} sentences of the languages of {exported}")
    models = ((workdir, step), (exported, "latest"))
    both = [_evaluate(*model, test, pairs) for model in models]
    rows = [[pair, *_cells([each.scores[pair] for each in both])] for pair in pairs]
    means = [
        [statistics.fmean(getattr(each.scores[pair], key) for pair in pairs) for each in both]
        for key in ("bleu", "chrf")
    ]
    footer = [["mean", *_formatted(means[0]), *_formatted(means[1])]]
    footer += [
        [name, *cells, "", "", ""]
        for name, cells in (
            ("parameters", _counted([each.parameters for each in both])),
            ("seconds", _formatted([each.seconds for each in both])),
        )
    ]
    head = ["pair", "BLEU", "pruned", "change", "chrF", "pruned", "change"]
    return Table(head, rows, footer=footer)


def _evaluate(folder: pathlib.Path, step: str, test: TestSet, pairs: Sequence[str]) -> _Evaluated:
    config = read_trained(folder).config
    config.mesh = MeshConfig()
    translator = load_translator(folder, config, step)
    start = time.perf_counter()
    sources = {pair: [source for source, _ in test.pairs[pair]] for pair in pairs}
    found = translate_all(translator, sources, folder.name)
    seconds = time.perf_counter() - start
    references = {pair: [one_line(english) for _, english in test.pairs[pair]] for pair in pairs}
    scores = {pair: score(found[pair], references[pair]) for pair in pairs}
    return _Evaluated(scores, count_parameters(translator.blueprint)[0], seconds)


def _cells(scores: Sequence[Score]) -> list[str]:
    return [
        *_formatted([each.bleu for each in scores]),
        *_formatted([each.chrf for each in scores]),
    ]


def _formatted(values: Sequence[float]) -> list[str]:
    before, after = values
    return [f"{before:.1f}", f"{after:.1f}", f"{after - before:+.1f}"]


def _counted(values: Sequence[int]) -> list[str]:
    before, after = values
    return [f"{before:,}", f"{after:,}", f"{after - before:+,}"]
