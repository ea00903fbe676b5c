"""From a run directory to its table: translate every held-out sentence, score, compare, write."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence

import tqdm
from jax.sharding import Mesh

from gshard_mt.data.prepared import open_prepared
from gshard_mt.decode.translate import Translator
from gshard_mt.errors import DataError
from gshard_mt.evaluate import report, samples, table
from gshard_mt.evaluate.history import read_history
from gshard_mt.evaluate.scores import compare, score, signatures
from gshard_mt.model.blueprint import count_parameters
from gshard_mt.run import Run

Lines = Mapping[str, Sequence[str]]  # a sentence a line, by pair
Baseline = Callable[[Lines], Lines]  # from sources to another system's English


def evaluate(
    workdir: pathlib.Path,
    run: Run,
    data_dir: pathlib.Path,
    step: str,
    split: str,
    mesh: Mesh,
    baseline: Baseline | None = None,
) -> str:
    """Writes `eval/<step>/<split>/` of the run directory and says where its page is; returns the
    table as text.

    All languages are translated together, sorted by length. Raises DataError if the data are not
    those the run was trained on.
    """
    prepared = open_prepared(data_dir)
    if prepared.fingerprint != run.data_fingerprint:
        raise DataError(
            f"{data_dir}: not the data that {workdir} was trained on; give them with --data_dir"
        )
    held_out = {pair: prepared.references(pair, split) for pair in prepared.pairs}
    sources = {pair: [source for source, _ in lines] for pair, lines in held_out.items() if lines}
    references = {pair: [english for _, english in held_out[pair]] for pair in sources}
    if not sources:
        raise DataError(f"{data_dir}: no pair has a {split} split")
    others = baseline(sources) if baseline else {}
    translator = Translator(workdir, run.config, step, mesh)
    hypotheses = translate_all(translator, sources)

    folder = pathlib.Path(workdir) / "eval" / str(translator.step) / split
    folder.mkdir(parents=True, exist_ok=True)
    scores, comparisons, chosen = {}, {}, {}
    with tqdm.tqdm(sources, desc="score", unit="pair", dynamic_ncols=True) as bar:
        for pair in bar:
            own, wanted = hypotheses[pair], references[pair]
            path = folder / f"{pair}.hyp.txt"
            path.write_text("".join(f"{line}\n" for line in own), encoding="utf-8")
            scores[pair] = score(own, wanted)
            chosen[pair] = samples.choose(sources[pair], wanted, own)
            if others:
                comparisons[pair] = compare(own, others[pair], wanted)
    total, active = count_parameters(run.config.model, translator.blueprint)
    result = table.Table(
        step=translator.step,
        split=split,
        parameters=total,
        active_parameters=active,
        signatures=signatures(),
        rows=table.make_rows(scores, prepared.train_pairs, comparisons),
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
        Translator(workdir, run.config, step, mesh), sources, "baseline"
    )


def files_as_baseline(folder: pathlib.Path) -> Baseline:
    """What any other system made of the sentences: `<pair>.hyp.txt`, a line each, in a folder.

    Raises DataError where one is missing or has another number of lines.
    """

    def read(pair: str, number: int) -> list[str]:
        path = folder / f"{pair}.hyp.txt"
        try:
            lines = path.read_bytes().decode("utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise DataError(
                f"{path}: can't be read ({reason}); accepted: a line for each of {number} sentences"
            ) from None
        if lines[-1] == "":
            lines.pop()
        if len(lines) != number:
            raise DataError(f"{path}: found {len(lines)} lines, accepted: {number}, one a sentence")
        return lines

    return lambda sources: {pair: read(pair, len(lines)) for pair, lines in sources.items()}
