"""Checkpoints of a run: saved while training goes on, whole or not at all, restored to any mesh."""
# SPDX-License-Identifier: Apache-2.0

import logging
import pathlib
from typing import Any

import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from gshard_mt.errors import CheckpointError

logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax tells of every file at level INFO


class Checkpoints:
    """The folder `checkpoints/` of a run directory: the last few steps and the best one.

    A checkpoint is three items: `params` and `optimizer`, Orbax trees of logical (unsharded)
    arrays, and `data`, the state of the data order as JSON. Best is the lowest `nll` among those
    that have one.
    """

    def __init__(self, workdir: pathlib.Path, max_checkpoints: int | None = None):
        """Opens the folder; with `max_checkpoints` for writing, else for reading only."""
        self.directory = pathlib.Path(workdir).resolve() / "checkpoints"
        if max_checkpoints is None and not self.directory.is_dir():
            raise CheckpointError(f"{self.directory}: not found; is this a run directory?")
        best = policies.BestN(get_metric_fn=_score, n=1, keep_checkpoints_without_metrics=False)
        keep = policies.AnyPreservationPolicy([policies.LatestN(max_checkpoints), best])
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=keep,
                best_fn=_score,
                read_only=max_checkpoints is None,
                cleanup_tmp_directories=max_checkpoints is not None,
            ),
            item_names=("params", "optimizer", "data"),
        )

    def steps(self) -> list[int]:
        """The steps that are saved whole, ascending."""
        return sorted(self._manager.all_steps())

    def choose(self, step: str) -> int:
        """Resolves `latest`, `best` or a number to a saved step."""
        saved = self.steps()
        if not saved:
            raise CheckpointError(f"{self.directory}: no finished checkpoint in it")
        if step == "latest":
            return saved[-1]
        if step == "best":
            best = self._manager.best_step()
            if best is None:
                raise CheckpointError(f"{self.directory}: no checkpoint has a dev nll; use latest")
            return best
        if not step.isdigit() or int(step) not in saved:
            accepted = ", ".join(map(str, saved))
            raise CheckpointError(
                f"{self.directory}: step {step!r} not found; accepted: latest, best, {accepted}"
            )
        return int(step)

    def save(
        self, step: int, params: Any, optimizer: Any, data_state: dict, nll: float | None
    ) -> None:
        """Starts saving, returns once arrays are copied; raises what failed in an earlier save."""
        self._manager.save(
            step,
            args=ocp.args.Composite(
                params=ocp.args.StandardSave(params),
                optimizer=ocp.args.StandardSave(optimizer),
                data=ocp.args.JsonSave(data_state),
            ),
            metrics=None if nll is None else {"nll": nll},
            force=True,
        )

    def restore(self, step: int, params_like: Any, optimizer_like: Any) -> tuple[Any, Any, dict]:
        """Returns parameters, optimizer state and data state of a step, to train on.

        The trees of `jax.ShapeDtypeStruct` say the shardings wanted, whatever mesh saved it.
        """
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                params=ocp.args.StandardRestore(params_like),
                optimizer=ocp.args.StandardRestore(optimizer_like),
                data=ocp.args.JsonRestore(),
            ),
        )
        return restored["params"], restored["optimizer"], restored["data"]

    def restore_params(self, step: int, params_like: Any) -> Any:
        """Returns the parameters of a step, to translate with."""
        args = ocp.args.Composite(params=ocp.args.StandardRestore(params_like))
        return self._manager.restore(step, args=args)["params"]

    def close(self) -> None:
        """Waits for the save under way."""
        self._manager.close()


def _score(metrics: dict) -> float:
    return -metrics["nll"]
