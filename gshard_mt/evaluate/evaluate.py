"""Evaluates a checkpoint: translates a test set, scores it, compares it, writes table and page."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import NamedTuple

from gshard_mt.console import Bar
from gshard_mt.data.normalization import one_line
from gshard_mt.decode.translate import Translator
from gshard_mt.decode.translation import Translation, describe_split, describe_too_long
from gshard_mt.evaluate import reliability, report, samples, table
from gshard_mt.evaluate.folder import read_lines, write_lines
from gshard_mt.evaluate.scores import Lines, Metric, compare, score, signatures
from gshard_mt.evaluate.test_sets import Leak, TestSet
from gshard_mt.model.blueprint import count_parameters
from gshard_mt.run.directory import Run
from gshard_mt.run.exported import read_trained
from gshard_mt.run.journal import read_history
from gshard_mt.run.mirror import push_changes, shown

Baseline = Callable[[Lines], Lines]  # from sources to another system's translations


class Place(NamedTuple):
    """Where an evaluation is from and goes to."""

    model: pathlib.Path  # a run directory or an exported model
    out: pathlib.Path | None = None  # in its place, gets eval/STEP/SPLIT
    command: str = ""  # as it was typed

    @property
    def root(self) -> pathlib.Path:
        return self.out or self.model


def evaluate(
    place: Place,
    translator: Translator,
    test: TestSet,
    leaks: Mapping[str, Leak],
    baseline: Baseline | None,
    metrics: Mapping[str, Metric],
) -> table.ScoreTable:
    """Writes `eval/<step>/<test set>/` in the place and prints the path of its page.

    Returns the table: BLEU, chrF and `metrics` by name, `leaks` by language pair. All languages are
    translated together, sorted by length.
    """
    run = read_trained(place.model)
    sources = {pair: [source for source, _ in lines] for pair, lines in test.pairs.items()}
    references = {
        pair: [one_line(english) for _, english in lines] for pair, lines in test.pairs.items()
    }
    others = baseline(sources) if baseline else {}
    best = find_all(translator, sources)
    hypotheses = _texts(best)
    folder = place.root / "eval" / translator.name / test.name
    folder.mkdir(parents=True, exist_ok=True)
    scores, comparisons, chosen = {}, {}, {}
    for pair in sources:
        write_lines(folder / f"{pair}.hyp.txt", hypotheses[pair])
        write_lines(folder / f"{pair}.ref.txt", references[pair])
    if metrics:
        print(f"measure     {', '.join(metrics)}", file=sys.stderr)
    extra = {
        name: metric.measure(sources, hypotheses, references) for name, metric in metrics.items()
    }
    with Bar("score", "pair", len(sources)) as bar:
        for pair in sources:
            own, expected = hypotheses[pair], references[pair]
            measured = {name: values[pair] for name, values in extra.items()}
            scores[pair] = dataclasses.replace(score(own, expected), extra=measured)
            chosen[pair] = samples.choose(sources[pair], expected, own)
            if others:
                comparisons[pair] = compare(own, others[pair], expected)
            bar.update()
    total, active = count_parameters(translator.blueprint)
    result = table.ScoreTable(
        step=translator.step,
        split=test.name,
        parameters=total,
        active_parameters=active,
        signatures=signatures() | {name: metric.signature for name, metric in metrics.items()},
        rows=table.make_rows(scores, run.train_pairs, comparisons, leaks),
        run=shown(place.model.resolve()) if place.out else "",
    )
    table.write(result, folder)
    found = _rate(translator, place, test.name, reliability.judge(best, references), run)
    history = read_history(place.model)
    name = place.model.resolve().name
    about = report.describe(place.command, history, translator.step)
    page = report.write(report.Report(name, run, result, history, chosen, found, about), folder)
    push_changes(place.root, "eval/")
    print(f"report      {shown(page)}", file=sys.stderr)
    return result


def _rate(
    translator: Translator, place: Place, test_set: str, judged: reliability.Judged, run: Run
) -> reliability.Reliability | None:
    """Writes and prints how far confidence can be trusted, if there is a calibration."""
    checkpoint, decode = translator.name, translator.config.decode
    path = place.root / "eval" / checkpoint / test_set / "reliability.md"
    for folder in dict.fromkeys((place.root, place.model)):
        confidence_I = reliability.rate(folder, checkpoint, decode, test_set, judged)
        if confidence_I is not None:
            break
    else:
        path.unlink(missing_ok=True)  # of an earlier evaluation
        return None
    found = reliability.measure(judged, confidence_I, run.train_pairs)
    path.write_text(found.to_markdown(), encoding="utf-8")
    print(f"reliability {shown(path)}\n{found.to_text()}", file=sys.stderr)
    return found


def translate_all(translator: Translator, sources: Lines, name: str = "translate") -> Lines:
    """Returns the texts of `find_all`."""
    return _texts(find_all(translator, sources, name))


def _texts(best: Mapping[str, list[Translation]]) -> Lines:
    return {pair: [each.text for each in own] for pair, own in best.items()}


def find_all(
    translator: Translator, sources: Lines, name: str = "translate"
) -> dict[str, list[Translation]]:
    """Translates the sentences of all language pairs together, with a progress bar.

    Tells on standard error how many were too long for the model.
    """
    lines = [line for own in sources.values() for line in own]
    with Bar(name, "sentence", len(lines)) as bar:
        found = iter(translator.find_best(lines, bar.update))
    best = {pair: [next(found) for _ in own] for pair, own in sources.items()}
    too_long = [
        f"{pair} line {number}"
        for pair, own in best.items()
        for number, each in enumerate(own, 1)
        if each.was_too_long
    ]
    num_split = sum(each.num_sentences > 1 for own in best.values() for each in own)
    if num_split:
        print(describe_split(len(lines), num_split), file=sys.stderr)
    if too_long:
        decode = translator.config.decode
        message = describe_too_long(decode, len(lines), len(too_long), too_long)
        print(message, file=sys.stderr)
    return best


def files_as_baseline(folder: pathlib.Path) -> Baseline:
    """Returns any system's translations as a baseline: `<pair>.hyp.txt`, one sentence per line.

    A byte order mark is left out. Calling it raises DataError if a file is missing or has another
    number of lines.
    """

    def read(sources: Lines) -> Lines:
        found = {}
        for pair, lines in sources.items():
            own = read_lines(folder / f"{pair}.hyp.txt", len(lines))
            found[pair] = [line.removeprefix("\ufeff") for line in own[:1]] + own[1:]
        return found

    return read
