"""The folder of an evaluation, RUN/eval/STEP/SPLIT: its sentence files, its table, its run."""
# SPDX-License-Identifier: Apache-2.0

import math
import pathlib
import tempfile
from collections.abc import Sequence
from typing import NamedTuple

from gshard_mt.documents import read_json
from gshard_mt.errors import DataError
from gshard_mt.evaluate import table as tables
from gshard_mt.evaluate.scores import Lines
from gshard_mt.run.directory import Run
from gshard_mt.run.exported import read_trained
from gshard_mt.run.journal import History, read_history
from gshard_mt.run.mirror import find_mirror, open_folder, opened_folder
from gshard_mt.storage.bucket_path import BucketPath, open_path

_REMEDY = "give a folder that gshard-eval wrote, RUN/eval/STEP/SPLIT, or a RUN that has one"


class SavedEvaluation(NamedTuple):
    """An evaluated checkpoint as `gshard-eval` saved it, with its run."""

    name: str
    checkpoint: str  # `900`, or `average-900`
    step: int
    split: str
    parameters: int
    active_parameters: int  # those used for one token
    hypotheses: Lines
    references: Lines
    run: Run
    history: History

    def dev_nll(self) -> float | None:
        """Returns the mean over languages at this step; None for an average of checkpoints."""
        is_average = self.checkpoint != str(self.step)
        return None if is_average else self.history.mean_dev_nll().get(self.step)

    def learning_curve(self) -> list[tuple[float, float]]:
        """Returns target tokens and mean dev nll of every dev evaluation with a finite nll."""
        means = sorted(self.history.mean_dev_nll().items())
        total = self.history.total
        return [(total("target_tokens", step), nll) for step, nll in means if math.isfinite(nll)]


def check_writable(root: pathlib.Path) -> None:
    """Raises DataError unless `eval` can be written in a run directory or another folder."""
    path = root / "eval"
    nearest = next(each for each in (path, *path.parents) if each.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise DataError(
            f"{path}: can't be written ({error.strerror}); accepted: --out=FOLDER, one that can"
        ) from None


def write_lines(path: pathlib.Path, lines: Sequence[str]) -> None:
    """Writes one sentence per line, as sacreBLEU reads them."""
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def read_lines(path: pathlib.Path, number: int) -> list[str]:
    """Reads `number` lines. Raises DataError if the file is missing, not UTF-8, or has more or
    fewer."""
    try:
        lines = path.read_bytes().decode("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise DataError(
            f"{path}: can't be read ({reason}); accepted: one line for each of {number} sentences"
        ) from None
    if lines[-1] == "":
        lines.pop()
    if len(lines) != number:
        raise DataError(
            f"{path}: found {len(lines)} lines, accepted: {number}, one for each sentence"
        )
    return lines


def open_evaluation(name: str) -> pathlib.Path:
    """Returns the last evaluation of a run directory; any other folder as it is.

    Of a run in a bucket it is in the run's mirror.
    """
    path = open_path(name)
    found = [each for each in path.glob("eval/*/*/table.json")]
    newest = max(found, key=lambda each: each.stat().st_mtime).parent if found else path
    if not isinstance(newest, BucketPath):
        return newest
    if newest.parts[-3:-2] != ("eval",):
        raise DataError(f"{newest}: found no evaluation; {_REMEDY}")
    run = newest.parents[2]
    copy = open_folder(run) / newest.relative_to(run)
    if mirror := find_mirror(copy.parents[2]):
        mirror.fetch(f"{newest.relative_to(run)}/")
    return copy


def read_evaluation(folder: pathlib.Path, name: str = "") -> SavedEvaluation:
    """Reads `RUN/eval/STEP/SPLIT/`; by default it is named after the run directory.

    Raises DataError for a folder without a table or with missing lines, CheckpointError for one
    that is not in a run directory.
    """
    folder = folder.resolve()
    table = read_json(folder / "table.json", tables.FORMAT_VERSION, DataError, _REMEDY)
    workdir = folder.parents[2] if len(folder.parents) > 2 else folder
    if "run" in table and not (workdir / "config.json").exists():  # of --out
        workdir = opened_folder(table["run"])
    counts = {row["pair"]: row["sentences"] for row in table["rows"]}
    hypotheses, references = (
        {pair: read_lines(folder / f"{pair}.{kind}.txt", number) for pair, number in counts.items()}
        for kind in ("hyp", "ref")
    )
    return SavedEvaluation(
        name=name or workdir.name,
        checkpoint=folder.parent.name,
        step=table["step"],
        split=table["split"],
        parameters=table["parameters"],
        active_parameters=table["active_parameters"],
        hypotheses=hypotheses,
        references=references,
        run=read_trained(workdir),
        history=read_history(workdir),
    )


def with_unique_names(evaluations: Sequence[SavedEvaluation]) -> list[SavedEvaluation]:
    """Returns the evaluations; later ones of the same name get their checkpoint or a number."""
    found: list[SavedEvaluation] = []
    for evaluation in evaluations:
        taken = {other.name for other in found}
        names = [evaluation.name, f"{evaluation.name} {evaluation.checkpoint}"]
        names += [f"{evaluation.name} ({number})" for number in range(2, len(evaluations) + 2)]
        name = next(name for name in names if name not in taken)
        found.append(evaluation._replace(name=name))
    return found


def check_same_references(evaluations: Sequence[SavedEvaluation]) -> None:
    """Raises DataError unless all evaluations scored the same sentences."""
    first = evaluations[0]
    for other in evaluations[1:]:
        differing = sorted(
            pair
            for pair in {*first.references, *other.references}
            if first.references.get(pair) != other.references.get(pair)
        )
        if differing:
            raise DataError(
                f"{other.name}: found other references than those of {first.name} "
                f"({len(differing)} language pairs, such as {differing[0]}); accepted: evaluations "
                "of the same sentences"
            )
