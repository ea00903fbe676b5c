"""Checkpoints of a run: saved while training goes on, whole or not at all, restored to any mesh."""
# SPDX-License-Identifier: Apache-2.0

import contextlib
import functools
import gc
import hashlib
import json
import logging
import os
import pathlib
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from gshard_mt.documents import in_one_line
from gshard_mt.errors import CheckpointError, DamagedError, TrainingError
from gshard_mt.partitioning.hosts import all_true, is_writer
from gshard_mt.run.integrity import checksums

logging.getLogger("absl").setLevel(logging.CRITICAL)  # Orbax tells of every file at level INFO
# Of one failure it leaves a future unread for every array; the first one is raised here.
logging.getLogger("asyncio").setLevel(logging.CRITICAL)

_ITEMS = ("params", "optimizer", "state")
_SAVE_ERRORS = (OSError, ValueError, RuntimeError)  # what Orbax raises of a full disk and the like
AVERAGE = "average"  # in place of a step: the mean of all that are kept


class Checkpoints:
    """The folder `checkpoints/` of a run directory: the last few steps and the best one.

    A checkpoint is three items: `params` and `optimizer`, Orbax trees of logical (unsharded)
    arrays, and `state`, a JSON object with what else the training goes on from, signed. In it are
    a checksum of every array and what was measured on dev: `nll`, `bleu`, or neither. Best among
    those that have it is the lowest nll, or by `best_by` the highest BLEU.
    """

    def __init__(
        self, workdir: pathlib.Path, max_checkpoints: int | None = None, best_by: str = "nll"
    ):
        """Opens the folder; with `max_checkpoints` for writing, else for reading only."""
        self.directory = pathlib.Path(workdir).resolve() / "checkpoints"
        self._is_writing = max_checkpoints is not None
        if not self._is_writing and not self.directory.is_dir():
            raise CheckpointError(f"{self.directory}: not found; is this a run directory?")
        self._saving: int | None = None
        self._has_failed = False
        _drop_late_words()
        self._best_by = best_by
        self._figures: dict[int, float] = {}  # what the best is chosen by
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=_LatestAndBest(max_checkpoints or 0, self._best),
                read_only=not self._is_writing,
                cleanup_tmp_directories=self._is_writing,
            ),
            item_names=_ITEMS,
        )
        for step in self.steps():
            with contextlib.suppress(DamagedError):
                self._note(step, self._read_record(step))

    def steps(self) -> list[int]:
        """The steps that are saved, ascending."""
        return sorted(self._manager.all_steps())

    def choose(self, step: str) -> int:
        """Resolves `latest`, `best` or a number to a saved step."""
        saved = self.steps()
        if not saved:
            raise CheckpointError(f"{self.directory}: no finished checkpoint in it")
        if step == "latest":
            return saved[-1]
        if step == "best":
            best = self._best()
            if best is None:
                name = "nll" if self._best_by == "nll" else "BLEU"
                raise CheckpointError(
                    f"{self.directory}: no checkpoint has a dev {name}; use latest"
                )
            return best
        if not step.isdigit() or int(step) not in saved:
            accepted = ", ".join(map(str, saved))
            raise CheckpointError(
                f"{self.directory}: step {step!r} not found; accepted: latest, best, {accepted}"
            )
        return int(step)

    def save(
        self,
        step: int,
        params: Any,
        optimizer: Any,
        state: dict[str, Any],
        dev: Mapping[str, float],
    ) -> None:
        """Starts saving, returns once arrays are copied.

        Raises TrainingError where an earlier save has failed, or devices hold different copies.
        """
        sums = checksums({"params": params, "optimizer": optimizer})
        record = {"state": state, "nll": None, **dev, "checksums": sums}
        self.wait()
        self._saving = step
        with self._failing_loudly():
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    params=ocp.args.StandardSave(params),
                    optimizer=ocp.args.StandardSave(optimizer),
                    state=ocp.args.JsonSave(_sign(record)),
                ),
                force=True,
            )
        self._note(step, dev)

    def restore_newest(
        self, params_like: Any, optimizer_like: Any, tell: Callable[[str], None]
    ) -> tuple[int, Any, Any, dict[str, Any]] | None:
        """Returns step, parameters, optimizer and state of the newest checkpoint that is whole.

        None where none was saved yet. Damaged ones are told of and moved to `damaged/` of the run
        directory. Raises CheckpointError where all of them are.
        """
        saved, damaged = self.steps(), []
        for step in reversed(saved):
            try:
                found = (step, *self.restore(step, params_like, optimizer_like))
            except DamagedError as error:
                tell(f"damaged     {error}")
                damaged.append(step)
                continue
            self._put_aside(damaged, tell)
            return found
        if saved:
            raise CheckpointError(
                f"{self.directory}: all checkpoints are damaged ({', '.join(map(str, saved))}); "
                "put a whole copy there, or give another --workdir to begin anew"
            )
        return None

    def restore(
        self, step: int, params_like: Any, optimizer_like: Any
    ) -> tuple[Any, Any, dict[str, Any]]:
        """Returns parameters, optimizer state and state of a step, to train on.

        The trees of `jax.ShapeDtypeStruct` say the shardings wanted, whatever mesh saved it. Raises
        DamagedError where it is not what was saved.
        """
        likes = {"params": params_like, "optimizer": optimizer_like}
        trees, state = self._restore(step, likes)
        return trees["params"], trees["optimizer"], state

    def restore_params(self, step: str, params_like: Any) -> tuple[int, Any]:
        """Returns a step and its parameters, to translate with.

        `latest` passes over damaged ones, with a line each on standard error; raises DamagedError
        for another. `average` are the means over all that are kept, and the last one's step.
        """
        if step == AVERAGE:
            return self._average(params_like)
        chosen = self.choose(step)
        while True:
            try:
                return chosen, self._restore(chosen, {"params": params_like})[0]["params"]
            except DamagedError as error:
                before = [other for other in self.steps() if other < chosen]
                if step != "latest" or not before:
                    raise
                print(f"damaged     {error}; taking checkpoint {before[-1]}", file=sys.stderr)
                chosen = before[-1]

    def _average(self, params_like: Any) -> tuple[int, Any]:
        last = self.choose("latest")
        saved, total = self.steps(), None
        add = jax.jit(functools.partial(jax.tree.map, jnp.add), donate_argnums=0)
        for step in saved:
            params = self._restore(step, {"params": params_like})[0]["params"]
            total = params if total is None else add(total, params)
        divide = jax.jit(lambda tree: jax.tree.map(lambda x: x / len(saved), tree))
        return last, divide(total)

    def read_params(self, step: int, params_like: Any) -> Iterator[jax.Array]:
        """Yields a step's parameters one by one, in the order of the tree's leaves.

        Memory need not hold them all. Raises DamagedError where one is not what was saved.
        """
        for path, like in jax.tree.flatten_with_path(params_like)[0]:
            for entry in reversed(path):
                like = {entry.key: like}
            # No name holds the array, so that it can be let go before the next one is read.
            yield from jax.tree.leaves(self._restore(step, {"params": like}, _restore_part)[0])

    def check(self) -> None:
        """Raises TrainingError if the save under way has failed."""
        with self._failing_loudly():
            self._manager.check_for_errors()

    def wait(self) -> None:
        """Waits for the save under way. Raises TrainingError if it fails."""
        with self._failing_loudly():
            self._manager.wait_until_finished()
            if self._saving is not None and not (self.directory / str(self._saving)).is_dir():
                raise OSError("it isn't there")
            self._saving = None

    def close(self) -> None:
        """Waits for the save under way, and lets the folder go. Raises as `wait`."""
        try:
            if not self._has_failed:
                self.wait()
        finally:
            with contextlib.suppress(*_SAVE_ERRORS):  # it was told of
                self._manager.close()

    def _restore(
        self,
        step: int,
        likes: dict[str, Any],
        restore: Callable[[Any], Any] = ocp.args.StandardRestore,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        reason = ""
        found: dict[str, Any] = {}
        record: dict[str, Any] = {}
        try:
            record = self._read_record(step)
            args = {name: restore(like) for name, like in likes.items()}
            restored = self._manager.restore(step, args=ocp.args.Composite(**args))
            found = {name: restored[name] for name in likes}
            _check_shapes(found, likes)
        except Exception as error:  # Orbax raises it as such, of whatever it finds
            reason = in_one_line(error)
        if not all_true(not reason):
            gc.collect()  # what was left unfinished hangs together in circles
            reason = reason or "another process can't read it"
            raise DamagedError(f"{self.directory / str(step)}: {reason}")
        wanted = record["checksums"]
        for name, value in checksums(found).items():
            if value != wanted.get(name):
                raise DamagedError(
                    f"{self.directory / str(step)}: {name} is not what was saved (its checksum is "
                    f"{value:08x}, not {wanted.get(name, 0):08x})"
                )
        return found, record["state"]

    def _read_record(self, step: int) -> dict[str, Any]:
        path = self.directory / str(step) / "state" / "metadata"
        try:
            return _check_signature(json.loads(path.read_bytes()))
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise DamagedError(f"{path}: {in_one_line(error)}") from error

    def _put_aside(self, steps: Sequence[int], tell: Callable[[str], None]) -> None:
        if not steps or not self._is_writing:
            return
        if is_writer():
            for step in steps:
                target = self.directory.parent / "damaged" / str(step)
                number = 1
                while target.exists():
                    number += 1
                    target = target.with_name(f"{step}.{number}")
                target.parent.mkdir(exist_ok=True)
                os.replace(self.directory / str(step), target)
                tell(f"moved       checkpoint {step} to {target}")
        all_true(True)  # the others wait until they are moved
        for step in steps:
            self._figures.pop(step, None)
        self._manager.reload()

    def _note(self, step: int, dev: Mapping[str, Any]) -> None:
        figure = dev.get(self._best_by)
        if figure is not None:
            self._figures[step] = figure if self._best_by == "nll" else -figure

    def _best(self) -> int | None:
        saved = {step: figure for step, figure in self._figures.items() if step in self.steps()}
        return min(saved, key=lambda step: (saved[step], step), default=None)

    @contextlib.contextmanager
    def _failing_loudly(self) -> Iterator[None]:
        try:
            yield
        except _SAVE_ERRORS as error:
            self._has_failed = True
            step = "" if self._saving is None else f" {self._saving}"
            whole = [str(step) for step in self.steps() if step != self._saving]
            free = shutil.disk_usage(self.directory).free / 2**20
            raise TrainingError(
                f"{self.directory}: saving checkpoint{step} failed ({in_one_line(error)}; "
                f"{free:,.0f} MiB are free); whole there: {', '.join(whole) or 'none'}. Mend it; "
                "the same command goes on from the last one"
            ) from error


class _LatestAndBest:
    """Orbax's protocol for what is kept once a new checkpoint is whole."""

    def __init__(self, max_checkpoints: int, best: Callable[[], int | None]):
        self._max_checkpoints, self._best = max_checkpoints, best

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        del context
        steps = [info.step for info in checkpoints]
        kept = {*sorted(steps)[-self._max_checkpoints :], self._best()}
        return [step in kept for step in steps]


def _sign(record: dict[str, Any]) -> dict[str, Any]:
    return {"record": record, "sha256": _digest(record)}


def _check_signature(signed: Any) -> dict[str, Any]:
    if _digest(signed["record"]) != signed["sha256"]:
        raise ValueError("it is not what was saved (its sha256 is another)")
    return signed["record"]


def _digest(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _restore_part(like: Any) -> Any:
    """Restores of an item no more than is in the tree."""
    placed = ocp.checkpoint_utils.construct_restore_args(like)
    return ocp.args.PyTreeRestore(like, restore_args=placed, partial_restore=True)


def _check_shapes(found: Any, likes: Any) -> None:
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(likes), strict=True):
        if (one.shape, one.dtype) != (other.shape, np.dtype(other.dtype)):
            raise ValueError(f"found {one.dtype}{one.shape}, not {other.dtype}{other.shape}")


def _drop_late_words() -> None:
    """Keeps what Orbax still had under way when something failed from telling of it in tracebacks.

    The failure itself is raised where it is waited for.
    """
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    sys.unraisablehook = _tell_unraisable


def _tell_unraisable(unraisable: Any) -> None:
    if "Event loop is closed" not in str(unraisable.exc_value):
        sys.__unraisablehook__(unraisable)
