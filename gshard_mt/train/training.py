"""A training run while it is open: everything that the loop uses, resumed and closed again."""
# SPDX-License-Identifier: Apache-2.0

import contextlib
import pathlib
import shlex
import sys
import time
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from gshard_mt.config.keys import to_json
from gshard_mt.config.records import Config
from gshard_mt.config.stages import stage_number
from gshard_mt.console import kept_in
from gshard_mt.data.batches import (
    CHUNK_PAIRS,
    Batch,
    TrainBatches,
    check_row_lengths,
    train_batches,
)
from gshard_mt.data.prepared import Prepared
from gshard_mt.data.stages import plan_stages
from gshard_mt.data.tokenizer import load_tokenizer
from gshard_mt.errors import (
    CheckpointError,
    ConfigError,
    TrainingError,
    describe_out_of_memory,
    is_out_of_memory,
)
from gshard_mt.model.blueprint import count_parameters
from gshard_mt.model.cost import step_flops
from gshard_mt.partitioning.hosts import (
    all_true,
    check_agreement,
    is_writer,
    make_global,
    share_rows,
)
from gshard_mt.partitioning.mesh import peak_flops
from gshard_mt.partitioning.placement import sharding
from gshard_mt.run.checkpoints import Checkpoints
from gshard_mt.run.directory import Run, lock_run, read_run, saved_steps, start_run
from gshard_mt.run.integrity import check_copies
from gshard_mt.run.journal import MIXTURES, JsonLines, routing_lines
from gshard_mt.run.mirror import find_mirror, push_changes
from gshard_mt.train.bad_steps import BadStepMonitor, LossStatistics, record_bad_step
from gshard_mt.train.description import describe, describe_change, describe_stage
from gshard_mt.train.initialization import find_origin, initial_params, plan_mapping
from gshard_mt.train.metrics import MetricsLog, StepSums, log_line, progress_bar
from gshard_mt.train.preemption import PreemptionHandler, StopRequest
from gshard_mt.train.profile import trace_steps
from gshard_mt.train.state import (
    TrainState,
    abstract_training,
    initial_opt_state,
    initial_state,
)
from gshard_mt.train.step import StepMetrics, make_dev_step, make_train_step
from gshard_mt.train.trackers import TrackedRun
from gshard_mt.train.validation import DevTranslations, EarlyStopping, Validation, mean_metrics

LOG = "train.log"
FORMATS = {"nll": "dev nll %.4f", "bleu": "dev BLEU %.1f"}


class Options(NamedTuple):
    """Options of this invocation; not saved with the run."""

    change_mixture: bool = False  # resume with other data or another temperature
    profile_steps: range = range(0)  # their trace is written to `profile/`
    dev: DevTranslations | None = None  # for `train.bleu_every` and `train.sample_translations`
    init_from: str = ""  # RUN[@STEP]: another run whose parameters a new one begins with
    tracker: str = ""  # a service of `trackers.py`
    notes: tuple[str, ...] = ()  # lines on the data, for the log


class Due(NamedTuple):
    """What to do after a step."""

    log: bool
    routing: bool  # with the first log line at or after an evaluation
    nll: bool
    bleu: bool
    save: bool
    stop: bool


def due_after(step: int, config: Config, request: StopRequest) -> Due:
    """Returns what the config or a request asks for; after the last step everything is due."""
    train = config.train
    is_last = step == train.num_steps
    stop = request.stop and not is_last
    log = step % train.log_every == 0 or is_last or stop
    num_evaluations_before = (step - train.log_every) // train.eval_every
    is_first_since = step // train.eval_every != num_evaluations_before
    return Due(
        log=log,
        routing=log and (is_first_since or is_last or stop),
        nll=step % train.eval_every == 0 or is_last,
        bleu=bool(train.bleu_every) and (step % train.bleu_every == 0 or is_last),
        save=step % train.save_every == 0 or is_last or stop or (log and request.save),
        stop=stop,
    )


class Training:
    """A run that is open: locked, with all its files, until the context ends.

    Raises ConfigError or CheckpointError if the directory holds another experiment or is in use.
    All processes create it together.
    """

    def __init__(
        self,
        config: Config,
        prepared: Prepared,
        workdir: pathlib.Path,
        mesh: Mesh,
        options: Options,
    ):
        check_row_lengths(prepared, config.data)
        plan_stages(prepared, config.data, config.train.stages, CHUNK_PAIRS)  # refuses bad weights
        begun = read_run(workdir) if (workdir / "config.json").exists() else None
        self.old_steps = begun.config.train.num_steps if begun else 0
        self.origin = find_origin(options.init_from, begun, workdir)
        run = Run(
            config, prepared.directory, prepared.fingerprint, prepared.train_pairs, self.origin
        )
        check_agreement(
            {
                "--config": str(to_json(config)),
                "--data_dir": prepared.fingerprint,
                "--init_from": str(self.origin),
            }
        )
        self.config, self.prepared, self.workdir = config, prepared, workdir
        self.mesh, self.options = mesh, options
        self.blueprint, self.optimizer, self.like = abstract_training(
            config, prepared.vocab_sizes, mesh
        )
        # Before the run directory is made: what doesn't fit must not become a run's config.
        if config.train.l2_sp and not self.origin:
            raise ConfigError(
                f"config.train.l2_sp: found {config.train.l2_sp}, accepted: 0 in a run that begins "
                "at random (with --init_from RUN it begins with another's parameters)"
            )
        self.mapping = None
        if self.origin and not saved_steps(workdir):
            tokenizer = load_tokenizer(prepared.directory)
            self.mapping = plan_mapping(self.origin, config, self.blueprint, tokenizer)
        train = config.train
        self.rows = share_rows(sharding(mesh, "BL", 2), train.batch_rows)
        self.bad_steps = BadStepMonitor()
        self.position: dict[str, Any] = {}  # of the current batch in the data
        self.dev_metrics: dict[str, float] = {}  # of the current step
        self.early_stopping = EarlyStopping(train.best_by)
        with contextlib.ExitStack() as stack:
            _lock(workdir, stack)
            start_run(workdir, run, options.change_mixture, is_writer())
            if is_writer():
                opening = f"started     {time.strftime('%Y-%m-%d')}: {shlex.join(sys.argv)}"
                stack.enter_context(kept_in(workdir / LOG, opening))
            stack.enter_context(jax.set_mesh(mesh))
            self.preemption = stack.enter_context(PreemptionHandler(mesh, train.save_minutes))
            self.checkpoints = Checkpoints(workdir, train.max_checkpoints, train.best_by)
            stack.enter_context(contextlib.closing(self.checkpoints))
            self.batches = train_batches(
                prepared, config.data, self.rows.num_rows, self.rows.own, train.stages
            )
            stack.enter_context(contextlib.closing(self.batches))
            self._resources = stack.pop_all()

    def __enter__(self) -> "Training":
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        self._resources.__exit__(kind, error, traceback)
        if error and is_out_of_memory(error):
            number = count_parameters(self.blueprint)[0]
            devices = f"{self.mesh.size} devices" if self.mesh.size > 1 else "one device"
            needed_by = f"{number:,} parameters and their optimizer on {devices}"
            raise TrainingError(describe_out_of_memory(error, needed_by)) from error

    def restore(self) -> TrainState:
        """Returns the state of the last checkpoint, or a new one, and prepares the steps after it.

        Raises CheckpointError if all checkpoints are damaged.
        """
        config, num_pairs = self.config, len(self.prepared.language_pairs)
        blueprint, optimizer, like = self.blueprint, self.optimizer, self.like
        found = self.checkpoints.restore_newest(like.params, like.opt_state, log_line)
        if found is None:
            self.start, state = 0, self._begin()
        else:
            self.start, params, opt_state, saved = found
            scalars = np.int32(self.start), LossStatistics.from_saved(saved["watch"])
            step, statistics = jax.device_put(scalars, like.step.sharding)
            state = TrainState(step, params, opt_state, statistics)
            resume_batches(self.batches, saved["batches"], self.workdir, self.start)
            patience = self.early_stopping
            if saved["batches"]["data"] == self.prepared.fingerprint:
                patience = patience.resumed(saved.get("patience", []))
            else:
                log_line("best        is chosen anew: other data have other dev sets")
            self.early_stopping = self._wait_for_last_stage(patience, self.start)
        describe(config, blueprint, self.start if found and not self.is_finished() else None)
        for note in self.options.notes:
            log_line(note)
        if 0 < self.old_steps < config.train.num_steps:
            log_line(f"schedule    {describe_change(config.train, self.old_steps, self.start)}")
        self.train_step = trace_steps(
            make_train_step(blueprint, config.train, optimizer, num_pairs),
            self.workdir / "profile",
            self.options.profile_steps,
            self.start,
        )
        dev_step = make_dev_step(blueprint, config.train, num_pairs)
        self.validation = Validation(config, self.prepared, self.rows, dev_step, self.options.dev)
        self.sums = StepSums(step_flops(config, blueprint), peak_flops(self.mesh))
        trackers = []
        if self.options.tracker and is_writer() and not self.is_finished():
            trackers = [TrackedRun(self.options.tracker, self.workdir, to_json(config))]
        self.metrics_log = MetricsLog(self.workdir, self.start, trackers)
        self._resources.enter_context(contextlib.closing(self.metrics_log))
        self.bar = progress_bar(self.start, config.train.num_steps)
        self._resources.enter_context(contextlib.closing(self.bar))
        if self.mapping:  # a restart before the first checkpoint begins here
            self.save(0, state)
            self.checkpoints.wait()
        return state

    def _begin(self) -> TrainState:
        """Returns the state before the first step: at random, or with another run's parameters."""
        state = initial_state(self.blueprint, self.optimizer, self.config.train.seed)
        if not self.mapping:
            return state
        for line in self.mapping.lines:
            log_line(f"init        {line}")
        state = state._replace(opt_state=None)  # it is of the parameters that are replaced
        params = initial_params(self.mapping, self.blueprint, state.params)
        opt_state = initial_opt_state(self.blueprint, self.optimizer, params)
        return state._replace(params=params, opt_state=opt_state)

    def remaining_steps(self) -> range:
        """Returns the steps to take, none if the run is finished, which is then said."""
        num_steps = self.config.train.num_steps
        if not self.is_finished():
            return range(self.start + 1, num_steps + 1)
        if self.ends_early():
            self.stop(self.start)
        else:
            beyond = f", beyond train.num_steps={num_steps}" if self.start > num_steps else ""
            log_line(f"finished    at step {self.start}{beyond}; nothing to do")
        return range(0)

    def next_batch(self) -> Batch:
        """Returns the next batch, on the devices."""
        self.position = self.batches.get_state()
        if stage := describe_stage(self.config.train, self.position.get("step"), self.start):
            log_line(f"stage       {stage}")
        return make_global(self.sums.wait_for(self.batches), self.rows)

    def due_after(self, step: int, metrics: StepMetrics) -> Due:
        """Takes the metrics of a step, still being computed, and returns what is due after it."""
        self.sums.add(metrics)
        self.bad_steps.add(step, self.position, metrics.check)
        self.dev_metrics = {}
        self.bar.update()
        return due_after(step, self.config, self.preemption.poll())

    def check_bad_steps(self, due: Due, state: TrainState) -> None:
        """Records and reports bad steps; where they stop the run, saves and raises TrainingError.

        The last step is left to the next call unless something is due that needs its outcome.
        """
        needs_last = due.log or due.nll or due.bleu or due.save
        for bad in self.bad_steps.find_bad(num_pending=0 if needs_last else 1):
            report = record_bad_step(self.workdir, bad, self.batches)
            if self.config.train.bad_steps == "skip":
                log_line(f"skipped     {report}")
                continue
            last_good = bad.step - 1
            self.write_sums(last_good, with_routing=True)
            if last_good > self.start:
                if last_good not in self.checkpoints.steps():
                    self.save(last_good, state, bad.position)
                self.checkpoints.wait()
            raise TrainingError(
                f"{report}; the same command stops here again, "
                "--config.train.bad_steps=skip skips the step"
            )

    def log(self, step: int, metrics: StepMetrics, with_routing: bool) -> None:
        """Writes the training metrics since the last line.

        Raises TrainingError if devices disagree or the save under way has failed.
        """
        check_copies("gradient norm", metrics.grad_norm)
        self.write_sums(step, with_routing)
        self.checkpoints.check()

    def validate(self, step: int, state: TrainState, due: Due) -> Due:
        """Measures and writes dev metrics; returns what is due now that the run may end early."""
        lines = list(self.validation.lines(state.params, due.nll, due.bleu))
        for line in lines:
            self.metrics_log.write({"step": step, **line})
        self.dev_metrics = mean_metrics(lines)
        patience = self.early_stopping.after(self.dev_metrics)
        self.early_stopping = self._wait_for_last_stage(patience, step)
        if self.dev_metrics:
            values = ", ".join(FORMATS[name] % value for name, value in self.dev_metrics.items())
            log_line(f"step {step}: {values}")
        if self.options.dev:
            for line in self.options.dev.show(state.params):
                log_line(line)
        self.sums.skip_time()
        if not self.ends_early():
            return due
        if not due.log:
            self.write_sums(step, with_routing=True)
        return due._replace(save=True, stop=True)

    def save(self, step: int, state: TrainState, position: dict[str, Any] | None = None) -> None:
        """Starts saving a checkpoint that resumes at `position`, by default the next batch."""
        record = {
            "batches": self.batches.get_state() if position is None else position,
            "watch": state.loss_statistics.to_saved(),
            "patience": list(self.early_stopping),
        }
        if is_writer():
            push_changes(self.workdir)
        self.checkpoints.save(step, state.params, state.opt_state, record, self.dev_metrics)
        self.preemption.note_save()
        self.sums.skip_time()

    def stop(self, step: int) -> bool:
        """Prints why the run stops; returns whether it is finished, not merely interrupted."""
        if self.ends_early():
            best = FORMATS[self.early_stopping.best_by] % self.early_stopping.best
            since = self.early_stopping.since
            log_line(f"ended early {since} evaluations no better than {best} (train.stop_after)")
            return True
        self.checkpoints.wait()
        log_line(f"stopped     after step {step}, which is saved; the same command resumes")
        return False

    def _wait_for_last_stage(self, patience: EarlyStopping, step: int) -> EarlyStopping:
        """Returns the state of early stopping after a step: it counts in the last stage only."""
        stages = self.config.train.stages
        is_before = stage_number(stages, step) < len(stages) - 1
        return patience._replace(since=0) if is_before else patience

    def is_finished(self) -> bool:
        """Returns whether the run needs no step after the one that it began with."""
        return self.start >= self.config.train.num_steps or self.ends_early()

    def ends_early(self) -> bool:
        """Returns whether `train.stop_after` evaluations brought no improvement."""
        return self.early_stopping.is_over(self.config.train.stop_after)

    def write_sums(self, step: int, with_routing: bool) -> None:
        """Writes a line of the good steps since the last one, if any."""
        line = self.sums.drain(step)
        if not line:
            return
        self.metrics_log.write(line)
        if with_routing:
            for layer in routing_lines(step, self.sums.routing, self.prepared.language_pairs):
                self.metrics_log.write_routing(layer)
        mfu = f", {line['mfu']:.1%} MFU" if "mfu" in line else ""
        self.bar.report(f"loss {line['loss']:.3f}, {line['tokens_per_second']:,.0f} tok/s{mfu}")


def _lock(workdir: pathlib.Path, stack: contextlib.ExitStack) -> None:
    """Locks the run directory until the stack closes.

    Raises CheckpointError on all processes if it is in use.
    """
    error = None
    if is_writer():
        try:
            stack.enter_context(lock_run(workdir, log_line))
        except CheckpointError as refusal:
            error = refusal
    if not all_true(error is None):
        raise error or CheckpointError(f"{workdir}: process 0 could not lock it")
    if mirror := find_mirror(workdir):
        mirror.pull()  # it may have changed before it was locked


def resume_batches(
    batches: TrainBatches, data_state: dict, workdir: pathlib.Path, step: int
) -> None:
    """Resumes the stream at the position that a step's checkpoint has.

    If the checkpoint was saved with a different mixture (allowed by `--change_mixture`), the new
    mixture starts here, and `mixtures.jsonl` gets a line. Its lines of this step or later were
    undone by returning to the checkpoint.
    """
    with contextlib.closing(JsonLines(workdir / MIXTURES, step - 1, is_writer())) as log:
        if batches.has_mixture_of(data_state):
            batches.set_state(data_state)
        else:
            log.write(
                {"step": step, "old": data_state, "new": batches.change_mixture(data_state, step)}
            )
            log_line(f"mixture     changed after step {step} (mixtures.jsonl has the old one)")
