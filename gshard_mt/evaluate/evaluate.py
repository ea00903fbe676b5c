"""From a run directory to its table: translate every held-out sentence, score, compare, write."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import pathlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import tqdm
from jax.sharding import Mesh

from gshard_mt.decode.translate import Translator, load_translator
from gshard_mt.evaluate import report, samples, table
from gshard_mt.evaluate.history import read_history
from gshard_mt.evaluate.lines import Lines, one_line, read_lines, write_lines
from gshard_mt.evaluate.scores import Metric, compare, score, signatures
from gshard_mt.evaluate.test_sets import Leak, TestSet
from gshard_mt.model.blueprint import count_parameters
from gshard_mt.run.directory import Run

Baseline = Callable[[Lines], Lines]  # from sources to another system's English


@dataclass(frozen=True)
class Question:
    """What is scored, and what beside BLEU and chrF is wanted."""

    test: TestSet
    leaks: Mapping[str, Leak] = dataclasses.field(default_factory=dict)  # by pair
    baseline: Baseline | None = None
    metrics: Mapping[str, Metric] = dataclasses.field(default_factory=dict)


def evaluate(workdir: pathlib.Path, run: Run, translator: Translator, question: Question) -> str:
    """Writes `eval/<step>/<test set>/` of the run directory and says where its page is; returns the
    table as text.

    All languages are translated together, by length.
    """
    test, baseline = question.test, question.baseline
    sources = {pair: [source for source, _ in lines] for pair, lines in test.pairs.items()}
    references = {
        pair: [one_line(english) for _, english in lines] for pair, lines in test.pairs.items()
    }
    others = baseline(sources) if baseline else {}
    hypotheses = translate_all(translator, sources)

    folder = pathlib.Path(workdir) / "eval" / translator.name / test.name
    folder.mkdir(parents=True, exist_ok=True)
    scores, comparisons, chosen = {}, {}, {}
    with tqdm.tqdm(sources, desc="score", unit="pair", dynamic_ncols=True) as bar:
        for pair in bar:
            own, wanted = hypotheses[pair], references[pair]
            write_lines(folder / f"{pair}.hyp.txt", own)
            write_lines(folder / f"{pair}.ref.txt", wanted)
            more = {
                name: metric.measure(sources[pair], own, wanted)
                for name, metric in question.metrics.items()
            }
            scores[pair] = dataclasses.replace(score(own, wanted), more=more)
            chosen[pair] = samples.choose(sources[pair], wanted, own)
            if others:
                comparisons[pair] = compare(own, others[pair], wanted)
    total, active = count_parameters(translator.blueprint)
    result = table.Table(
        step=translator.step,
        split=test.name,
        parameters=total,
        active_parameters=active,
        signatures=signatures()
        | {name: metric.signature for name, metric in question.metrics.items()},
        rows=table.make_rows(scores, run.train_pairs, comparisons, question.leaks),
    )
    table.write(result, folder)
    history = read_history(workdir)
    name = pathlib.Path(workdir).resolve().name
    page = report.write(report.Report(name, run, result, history, chosen), folder)
    print(f"report      {page}", file=sys.stderr)
    return table.to_text(result)


def translate_all(translator: Translator, sources: Lines, name: str = "translate") -> Lines:
    """Translates the sentences of all pairs together, with a progress bar of that name."""
    lines = [line for own in sources.values() for line in own]
    with tqdm.tqdm(total=len(lines), desc=name, unit="sentence", dynamic_ncols=True) as bar:
        english = iter(translator.translate(lines, bar.update))
    return {pair: [next(english) for _ in own] for pair, own in sources.items()}


def run_as_baseline(workdir: pathlib.Path, run: Run, step: str, mesh: Mesh) -> Baseline:
    """Another run's checkpoint, which translates the very sentences that are scored."""
    return lambda sources: translate_all(
        load_translator(workdir, run.config, step, mesh), sources, "baseline"
    )


def files_as_baseline(folder: pathlib.Path) -> Baseline:
    """What any other system made of the sentences: `<pair>.hyp.txt`, a line each, in a folder.

    Raises DataError where one is missing or has another number of lines.
    """

    return lambda sources: {
        pair: read_lines(folder / f"{pair}.hyp.txt", len(lines)) for pair, lines in sources.items()
    }
