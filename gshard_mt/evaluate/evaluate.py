"""From a run directory to its table: translate every held-out sentence, score, write."""
# SPDX-License-Identifier: Apache-2.0

import pathlib

import tqdm
from jax.sharding import Mesh

from gshard_mt.data.prepared import open_prepared
from gshard_mt.decode.translate import Translator
from gshard_mt.errors import DataError
from gshard_mt.evaluate import table
from gshard_mt.evaluate.scores import score, signatures
from gshard_mt.model.blueprint import count_parameters
from gshard_mt.run import Run


def evaluate(
    workdir: pathlib.Path, run: Run, data_dir: pathlib.Path, step: str, split: str, mesh: Mesh
) -> str:
    """Writes `eval/<step>/<split>/` of the run directory; returns the table as text.

    All languages are translated together, sorted by length. Raises DataError if the data are not
    those the run was trained on.
    """
    prepared = open_prepared(data_dir)
    if prepared.fingerprint != run.data_fingerprint:
        raise DataError(
            f"{data_dir}: not the data that {workdir} was trained on; give them with --data_dir"
        )
    pairs = {pair: prepared.references(pair, split) for pair in prepared.pairs}
    pairs = {pair: lines for pair, lines in pairs.items() if lines}
    if not pairs:
        raise DataError(f"{data_dir}: no pair has a {split} split")
    translator = Translator(workdir, run.config, step, mesh)
    sources = [source for lines in pairs.values() for source, _ in lines]
    with tqdm.tqdm(
        total=len(sources), desc="translate", unit="sentence", dynamic_ncols=True
    ) as bar:
        hypotheses = iter(translator.translate(sources, bar.update))

    folder = pathlib.Path(workdir) / "eval" / str(translator.step) / split
    folder.mkdir(parents=True, exist_ok=True)
    scores = {}
    for pair, lines in pairs.items():
        own = [next(hypotheses) for _ in lines]
        (folder / f"{pair}.hyp.txt").write_text("".join(f"{h}\n" for h in own), encoding="utf-8")
        scores[pair] = score(own, [reference for _, reference in lines])
    total, active = count_parameters(run.config.model, translator.blueprint)
    result = table.Table(
        step=translator.step,
        split=split,
        parameters=total,
        active_parameters=active,
        signatures=signatures(),
        rows=table.make_rows(scores, prepared.train_pairs),
    )
    table.write(result, folder)
    return table.to_text(result)
