"""The flags of commands that prune a model: which languages it is for, how many experts stay."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from absl import flags

from gshard_mt.errors import ConfigError

if TYPE_CHECKING:
    from gshard_mt.run.directory import Run
    from gshard_mt.run.pruning import Pruning, Worth


def define_pruning() -> "Callable[..., Pruning | None]":
    """Defines `--keep_experts` and `--languages`; returns what reads them for a run and a step.

    It takes the folder, its run, the step, and the worth of experts if that isn't their load.
    """
    share = flags.DEFINE_float(
        "keep_experts",
        None,
        "Share of the experts of every layer to keep, e.g. 0.5, by default those with the largest "
        "loads in training. The other experts' tokens go to the best one that is kept.",
    )
    languages = flags.DEFINE_list(
        "languages",
        [],
        "With --keep_experts: the source languages whose loads count, e.g. de,fr (default: all).",
    )

    def read(
        folder: pathlib.Path, run: "Run", step: str, loss: "Worth | None" = None
    ) -> "Pruning | None":
        from gshard_mt.run.exported import is_export
        from gshard_mt.run.journal import read_history
        from gshard_mt.run.pruning import LOAD, LOSS, load_of_experts, plan_pruning

        if share.value is None:
            found = "--languages" if languages.value else "--choose_experts_by"
            if languages.value or loss:
                raise ConfigError(f"{found}: found without --keep_experts; accepted: both")
            return None
        if is_export(folder):
            raise ConfigError(
                "--keep_experts: found with --model, which has no loads; accepted: --workdir RUN"
            )
        if loss:
            return plan_pruning(run, languages.value, share.value, loss, LOSS)
        last = int(step) if step.isdigit() else sys.maxsize
        loads = load_of_experts(read_history(folder), last)
        return plan_pruning(run, languages.value, share.value, loads, LOAD)

    return read
