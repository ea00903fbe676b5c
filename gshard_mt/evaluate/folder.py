"""What `gshard-eval` left of a run, read back: its table, its lines, and how the run got there."""
# SPDX-License-Identifier: Apache-2.0

import math
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from gshard_mt.documents import read_json
from gshard_mt.errors import DataError
from gshard_mt.evaluate import table as tables
from gshard_mt.evaluate.history import History, read_history
from gshard_mt.evaluate.lines import Lines, read_lines
from gshard_mt.run.directory import Run, read_run


class Evaluated(NamedTuple):
    """An evaluation of a checkpoint, and its run."""

    name: str
    checkpoint: str  # `900`, or `average-900`
    step: int
    split: str
    parameters: int
    active_parameters: int  # those that one token meets
    hypotheses: Lines
    references: Lines
    run: Run
    history: History

    def target_tokens(self) -> int:
        """Returns how many English tokens the checkpoint was trained on."""
        return _target_tokens(self.history, self.step)

    def seconds(self) -> float:
        """Returns how long its steps took, without evaluations and saving."""
        lines = (line for line in self.history.train if line["step"] <= self.step)
        return sum(line.get("seconds", 0.0) for line in lines)

    def dev_nll(self) -> float | None:
        """Returns the mean over languages at its step; of an average of checkpoints, none."""
        is_average = self.checkpoint != str(self.step)
        return None if is_average else self.history.mean_dev_nll().get(self.step)

    def learning_curve(self) -> list[tuple[int, float]]:
        """Returns target tokens and mean dev nll of every dev evaluation of the run."""
        means = sorted(self.history.mean_dev_nll().items())
        curve = [(_target_tokens(self.history, step), nll) for step, nll in means]
        return [(tokens, nll) for tokens, nll in curve if math.isfinite(nll)]


def _target_tokens(history: History, step: int) -> int:
    """Returns the sum of what each line counts: a run that goes on drops lines it makes again."""
    lines = (line for line in history.train if line["step"] <= step)
    return sum(line.get("target_tokens", 0) for line in lines)


def read_evaluated(folder: pathlib.Path, name: str = "") -> Evaluated:
    """Reads `RUN/eval/STEP/SPLIT/`; the name is the run directory's unless another one is given.

    Raises DataError for a folder without a table, and where lines are missing; CheckpointError
    where it is not in a run directory.
    """
    folder = folder.resolve()
    remedy = "give a folder that gshard-eval wrote, RUN/eval/STEP/SPLIT"
    table = read_json(folder / "table.json", tables.FORMAT_VERSION, DataError, remedy)
    workdir = folder.parents[2] if len(folder.parents) > 2 else folder
    counts = {row["pair"]: row["sentences"] for row in table["rows"]}
    hypotheses, references = (
        {pair: read_lines(folder / f"{pair}.{kind}.txt", number) for pair, number in counts.items()}
        for kind in ("hyp", "ref")
    )
    return Evaluated(
        name=name or workdir.name,
        checkpoint=folder.parent.name,
        step=table["step"],
        split=table["split"],
        parameters=table["parameters"],
        active_parameters=table["active_parameters"],
        hypotheses=hypotheses,
        references=references,
        run=read_run(workdir),
        history=read_history(workdir),
    )


def name_apart(several: Sequence[Evaluated]) -> list[Evaluated]:
    """Returns the evaluations, those of one name with their checkpoint or number behind it."""
    found: list[Evaluated] = []
    for evaluated in several:
        taken = {other.name for other in found}
        names = [evaluated.name, f"{evaluated.name} {evaluated.checkpoint}"]
        names += [f"{evaluated.name} ({number})" for number in range(2, len(several) + 2)]
        name = next(name for name in names if name not in taken)
        found.append(evaluated._replace(name=name))
    return found


def check_same_references(several: Sequence[Evaluated]) -> None:
    """Raises DataError if they were not scored on the same sentences."""
    first = several[0]
    for other in several[1:]:
        differing = sorted(
            pair
            for pair in {*first.references, *other.references}
            if first.references.get(pair) != other.references.get(pair)
        )
        if differing:
            raise DataError(
                f"{other.name}: found other references than those of {first.name} "
                f"({len(differing)} pairs, as {differing[0]}); accepted: evaluations of the same "
                "sentences"
            )
