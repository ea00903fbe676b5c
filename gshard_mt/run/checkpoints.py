"""Checkpoints of a run: saved in the background, whole or not at all, restored onto any mesh."""
# SPDX-License-Identifier: Apache-2.0

import contextlib
import functools
import gc
import itertools
import json
import logging
import os
import pathlib
import shutil
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from gshard_mt.documents import in_one_line
from gshard_mt.errors import CheckpointError, DamagedError, StorageError, TrainingError
from gshard_mt.partitioning.hosts import all_true, is_writer
from gshard_mt.run import integrity
from gshard_mt.run.mirror import find_mirror

logging.getLogger("absl").setLevel(logging.CRITICAL)  # Orbax logs every file at level INFO
# After a failure Orbax leaves one unread future per array; the first one is raised here.
logging.getLogger("asyncio").setLevel(logging.CRITICAL)

_ITEMS = ("params", "optimizer", "state")
# What Orbax raises for a full disk, say; what a bucket does, in its callback.
_SAVE_ERRORS = (OSError, ValueError, RuntimeError, StorageError, CheckpointError)
AVERAGE = "average"  # instead of a step: the mean of all that are kept but step 0


class Checkpoints:
    """The folder `checkpoints/` of a run directory: the last few steps and the best one.

    A checkpoint has three items: `params` and `optimizer`, Orbax trees of logical (unsharded)
    arrays, and `state`, a signed JSON object with whatever else training resumes from, a checksum
    of every array, and the dev metrics of the step, if any: `nll`, `bleu`. The best checkpoint has
    the lowest nll, or with `best_by="bleu"` the highest BLEU, of those with the same dev set as the
    last one: `data` in the position of `state`'s batches tells which data that is of.

    Of a run in a bucket the folder is a mirror's: arrays are fetched before they are restored, and
    saved ones, by each process those of its devices, are pushed as the last part of a save.
    """

    def __init__(
        self, workdir: pathlib.Path, max_checkpoints: int | None = None, best_by: str = "nll"
    ):
        """Opens the folder for writing if `max_checkpoints` is given, else for reading only."""
        self.directory = pathlib.Path(workdir).resolve() / "checkpoints"
        self._is_writing = max_checkpoints is not None
        if not self._is_writing and not self.directory.is_dir():
            raise CheckpointError(f"{self.directory}: not found; is this a run directory?")
        self._saving: int | None = None
        self._has_failed = False
        _silence_late_failures()
        self._best_by = best_by
        self._losses: dict[int, tuple[str, float]] = {}  # step -> data, nll or -BLEU by `best_by`
        self._mirror = find_mirror(self.directory.parent)
        options: dict[str, Any] = {
            "preservation_policy": _LatestAndBest(max_checkpoints or 0, self._best),
            "read_only": not self._is_writing,
            "cleanup_tmp_directories": self._is_writing,
        }
        handlers = None
        if self._mirror and self._is_writing:
            options["async_options"] = ocp.AsyncOptions(
                post_finalization_callback=self._push,
                # In a thread, it would tell all processes as soon as one has made its folders.
                create_directories_asynchronously=False,
            )
        if self._mirror and jax.process_count() > 1:
            options["multiprocessing_options"], handlers = _apart()
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(**options),
            item_names=_ITEMS,
            item_handlers=handlers,
        )
        for step in self.steps():
            with contextlib.suppress(DamagedError):
                record = self._read_record(step)
                self._note(step, record, record["state"])
        self._tidy()

    def steps(self) -> list[int]:
        """Returns the saved steps, ascending."""
        return sorted(self._manager.all_steps())

    def choose(self, step: str) -> int:
        """Resolves `latest`, `best` or a number to a saved step."""
        saved = self.steps()
        if not saved:
            raise CheckpointError(f"{self.directory}: no finished checkpoint")
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

    def params_checksum(self, step: str) -> str:
        """Returns a checksum of the parameters of a step, or of all that `average` is made of."""
        steps = self.averaged() if step == AVERAGE else [self.choose(step)]
        sums = [self._read_record(each)["checksums"] for each in steps]
        names = sorted({name for each in sums for name in each if name.startswith("params/")})
        values = [[each.get(name) for name in names] for each in sums]
        return f"{zlib.crc32(repr(values).encode()):08x}"

    def save(
        self,
        step: int,
        params: Any,
        opt_state: Any,
        state: dict[str, Any],
        dev: Mapping[str, float],
    ) -> None:
        """Starts a save and returns as soon as the arrays are copied.

        Raises TrainingError if an earlier save failed or devices hold different copies.
        """
        sums = integrity.checksums({"params": params, "optimizer": opt_state})
        record = {"state": state, "nll": None, **dev, "checksums": sums}
        self.wait()
        self._saving = step
        with self._raising_training_errors():
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    params=ocp.args.StandardSave(params),
                    optimizer=ocp.args.StandardSave(opt_state),
                    state=ocp.args.JsonSave(integrity.sign(record)),
                ),
                force=True,
            )
        self._note(step, dev, state)

    def restore_newest(
        self, abstract_params: Any, abstract_opt_state: Any, log: Callable[[str], None]
    ) -> tuple[int, Any, Any, dict[str, Any]] | None:
        """Returns step, parameters, optimizer state and state of the newest undamaged checkpoint.

        None if nothing was saved yet. Damaged ones are logged and moved to `damaged/` in the run
        directory. Raises CheckpointError if all are damaged.
        """
        saved, damaged = self.steps(), []
        for step in reversed(saved):
            try:
                found = (step, *self.restore(step, abstract_params, abstract_opt_state))
            except DamagedError as error:
                log(f"damaged     {error}")
                damaged.append(step)
                continue
            self._set_aside(damaged, log)
            return found
        if saved:
            raise CheckpointError(
                f"{self.directory}: all checkpoints are damaged ({', '.join(map(str, saved))}); "
                "restore one from a copy, or give another --workdir to start from scratch"
            )
        return None

    def restore(
        self, step: int, abstract_params: Any, abstract_opt_state: Any
    ) -> tuple[Any, Any, dict[str, Any]]:
        """Returns parameters, optimizer state and state of a step, to resume training.

        The abstract trees (`jax.ShapeDtypeStruct`) give the shardings, whatever mesh saved the
        step. Raises DamagedError if it is not what was saved.
        """
        abstract = {"params": abstract_params, "optimizer": abstract_opt_state}
        trees, state = self._restore(step, abstract)
        return trees["params"], trees["optimizer"], state

    def restore_params(self, step: str, abstract_params: Any) -> tuple[int, Any]:
        """Returns a step and its parameters, for inference.

        `latest` skips damaged checkpoints with a line on standard error; for any other step they
        raise DamagedError. `average` is the mean over all that are kept but step 0, with the last
        one's step.
        """
        if step == AVERAGE:
            return self._average(abstract_params)
        chosen = self.choose(step)
        while True:
            try:
                return chosen, self._restore(chosen, {"params": abstract_params})[0]["params"]
            except DamagedError as error:
                before = [other for other in self.steps() if other < chosen]
                if step != "latest" or not before:
                    raise
                print(f"damaged     {error}; taking checkpoint {before[-1]}", file=sys.stderr)
                chosen = before[-1]

    def _average(self, abstract_params: Any) -> tuple[int, Any]:
        last = self.choose("latest")
        saved, total = self.averaged(), None
        add = jax.jit(functools.partial(jax.tree.map, jnp.add), donate_argnums=0)
        for step in saved:
            params = self._restore(step, {"params": abstract_params})[0]["params"]
            total = params if total is None else add(total, params)
        divide = jax.jit(lambda tree: jax.tree.map(lambda x: x / len(saved), tree))
        return last, divide(total)

    def averaged(self) -> list[int]:
        """Returns the steps of `average`: without step 0, which another run has trained."""
        steps = self.steps()
        return [step for step in steps if step] or steps

    def read_params(self, step: str, abstract_params: Any) -> Iterator[jax.Array]:
        """Yields a step's parameters one by one, in the order of the tree's leaves.

        Memory need not hold them all. `average` gives what `restore_params` does. Raises
        DamagedError if one is not what was saved.
        """
        steps = self.averaged() if step == AVERAGE else [self.choose(step)]
        for path, tree in jax.tree.flatten_with_path(abstract_params)[0]:
            for entry in reversed(path):
                tree = {entry.key: tree}
            parts = (self._restore(each, {"params": tree}, _restore_part)[0] for each in steps)
            leaves = (leaf for part in parts for leaf in jax.tree.leaves(part))
            # No name holds the array, so that it can be freed before the next one is read.
            yield functools.reduce(jnp.add, leaves) / len(steps) if steps[1:] else next(leaves)

    def check(self) -> None:
        """Raises TrainingError if the save in progress has failed."""
        with self._raising_training_errors():
            self._manager.check_for_errors()

    def wait(self) -> None:
        """Waits for the save in progress. Raises TrainingError if it fails."""
        with self._raising_training_errors():
            self._manager.wait_until_finished()
            if self._saving is not None:
                if not (self.directory / str(self._saving)).is_dir():
                    raise OSError("its folder is missing")
                self._tidy()
            self._saving = None

    def close(self) -> None:
        """Waits for the save in progress and closes the folder. Raises as `wait`."""
        try:
            if not self._has_failed:
                self.wait()
        finally:
            with contextlib.suppress(*_SAVE_ERRORS):  # already raised
                self._manager.close()

    def _restore(
        self,
        step: int,
        abstract: dict[str, Any],
        restore: Callable[[Any], Any] = ocp.args.StandardRestore,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns the items asked for, checked, and the state that was saved with them."""
        if self._mirror:
            for item in abstract:
                self._mirror.fetch(f"checkpoints/{step}/{item}/")
        reason = ""
        found: dict[str, Any] = {}
        record: dict[str, Any] = {}
        try:
            record = self._read_record(step)
            args = {name: restore(tree) for name, tree in abstract.items()}
            restored = self._manager.restore(step, args=ocp.args.Composite(**args))
            found = {name: restored[name] for name in abstract}
            integrity.check_shapes(found, abstract)
        except Exception as error:  # Orbax raises all kinds, bare `Exception` too
            reason = in_one_line(error)
        if not all_true(not reason):
            gc.collect()  # unfinished reads are held by reference cycles
            reason = reason or "another process can't read it"
            raise DamagedError(f"{self.directory / str(step)}: {reason}")
        try:
            integrity.check_sums(found, record["checksums"])
        except ValueError as error:
            raise DamagedError(f"{self.directory / str(step)}: {error}") from error
        return found, record["state"]

    def _read_record(self, step: int) -> dict[str, Any]:
        path = self.directory / str(step) / "state" / "metadata"
        try:
            return integrity.check_signature(json.loads(path.read_bytes()))
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise DamagedError(f"{path}: {in_one_line(error)}") from error

    def _push(self) -> None:
        """Copies into the bucket what this process has just saved, before Orbax finishes it."""
        half = next(self.directory.glob(f"{self._saving}.*"), self.directory / str(self._saving))
        assert self._mirror and self._saving is not None
        self._mirror.push_step(self._saving, half, jax.process_index(), jax.process_count())

    def _tidy(self) -> None:
        """Deletes in the bucket what is not here, and the arrays here, which are in the bucket."""
        if not self._mirror or not self._is_writing:
            return
        for step, item in itertools.product(self.steps(), ("params", "optimizer")):
            self._mirror.drop(f"checkpoints/{step}/{item}/")
        if is_writer():
            self._mirror.keep_steps(self.steps())

    def _set_aside(self, steps: Sequence[int], log: Callable[[str], None]) -> None:
        if not steps or not self._is_writing:
            return
        if is_writer() or self._mirror:
            folder = self.directory.parent / "damaged"
            folder.mkdir(exist_ok=True)
            for step in steps:
                names = itertools.chain([str(step)], (f"{step}.{n}" for n in itertools.count(2)))
                target = next(folder / name for name in names if not (folder / name).exists())
                os.replace(self.directory / str(step), target)
                log(f"moved       checkpoint {step} to {target}")
        all_true(True)  # the other processes wait here until they are moved
        self._manager.reload()
        if self._mirror and is_writer():
            self._mirror.push("damaged/")
        self._tidy()

    def _note(self, step: int, dev: Mapping[str, Any], state: Mapping[str, Any]) -> None:
        self._losses.pop(step, None)  # of a damaged checkpoint that is being replaced
        if (metric := dev.get(self._best_by)) is not None:
            data = state.get("batches", {}).get("data", "")
            self._losses[step] = data, metric if self._best_by == "nll" else -metric

    def _best(self) -> int | None:
        saved = [(*self._losses[step], step) for step in self.steps() if step in self._losses]
        last_data = saved[-1][0] if saved else ""
        return min((each[1:] for each in saved if each[0] == last_data), default=(0.0, None))[1]

    @contextlib.contextmanager
    def _raising_training_errors(self) -> Iterator[None]:
        try:
            yield
        except _SAVE_ERRORS as error:
            self._has_failed = True
            step = "" if self._saving is None else f" {self._saving}"
            whole = [str(step) for step in self.steps() if step != self._saving]
            free = shutil.disk_usage(self.directory).free / 2**20
            raise TrainingError(
                f"{self.directory}: saving checkpoint{step} failed ({in_one_line(error)}; "
                f"{free:,.0f} MiB free); complete: {', '.join(whole) or 'none'}. Solve this and "
                "run the same command: it resumes from the last one"
            ) from error


class _LatestAndBest:
    """Orbax's protocol for choosing the checkpoints to keep."""

    def __init__(self, max_checkpoints: int, best: Callable[[], int | None]):
        self._max_checkpoints, self._best = max_checkpoints, best

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        del context
        steps = [info.step for info in checkpoints]
        kept = {*sorted(steps)[-self._max_checkpoints :], self._best()}
        return [step in kept for step in steps]


def _apart() -> tuple[Any, dict[str, Any]]:
    """Returns what has each process save its arrays into a folder of its own, as files.

    Together they are a whole checkpoint. OCDBT, which needs a folder that all processes see, would
    merge the parts.
    """
    alone = ocp.options.MultiprocessingOptions(primary_host=None)
    handlers: dict[str, Any] = {
        item: ocp.StandardCheckpointHandler(use_ocdbt=False, multiprocessing_options=alone)
        for item in ("params", "optimizer")
    }
    handlers["state"] = ocp.JsonCheckpointHandler(multiprocessing_options=alone)
    return alone, handlers


def _restore_part(tree: Any) -> Any:
    """Restores only those arrays of an item that are in the tree."""
    placed = ocp.checkpoint_utils.construct_restore_args(tree)
    return ocp.args.PyTreeRestore(tree, restore_args=placed, partial_restore=True)


def _silence_late_failures() -> None:
    """Hides tracebacks of what Orbax still had in progress when a save or restore failed.

    The failure itself is raised by whoever waits for it.
    """

    def show(unraisable: Any) -> None:
        if "Event loop is closed" not in str(unraisable.exc_value):
            sys.__unraisablehook__(unraisable)

    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    sys.unraisablehook = show
