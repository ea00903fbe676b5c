"""The training loop: from prepared data and a config to checkpoints and metrics."""
# SPDX-License-Identifier: Apache-2.0

import contextlib
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from gshard_mt.config.checks import check
from gshard_mt.config.keys import to_json
from gshard_mt.config.records import Config
from gshard_mt.data.batches import (
    TrainBatches,
    check_row_lengths,
    train_batches,
)
from gshard_mt.data.prepared import Prepared
from gshard_mt.errors import CheckpointError, TrainingError
from gshard_mt.model.blueprint import Blueprint, count_parameters
from gshard_mt.model.cost import step_flops
from gshard_mt.model.moe import group_capacity, training_groups
from gshard_mt.partitioning.hosts import (
    all_true,
    check_agreement,
    is_writer,
    make_global,
    share_rows,
)
from gshard_mt.partitioning.mesh import peak_flops
from gshard_mt.partitioning.placement import sharding
from gshard_mt.routing.capacity import num_groups
from gshard_mt.routing.dispatch import choose_dispatch
from gshard_mt.run.checkpoints import Checkpoints
from gshard_mt.run.directory import Run, lock_run, start_run
from gshard_mt.run.integrity import check_copies
from gshard_mt.run.journal import MIXTURES, JsonLines, routing_lines
from gshard_mt.train.guard import Guard, write_bad_step
from gshard_mt.train.metrics import MetricsLog, StepSums, progress_bar, say
from gshard_mt.train.preemption import Wishes
from gshard_mt.train.profile import trace_steps
from gshard_mt.train.state import TrainState, abstract_training, initial_state
from gshard_mt.train.step import make_dev_step, make_train_step
from gshard_mt.train.validation import Dev, DevBleu, Patience, mean_figures
from gshard_mt.train.watch import Watch


class Options(NamedTuple):
    """What is said of one start of a run, and not of the run."""

    change_mixture: bool = False  # go on with other data or another temperature than it had
    profile_steps: range = range(0)  # leave a trace of these in `profile/`
    dev_bleu: DevBleu | None = None  # measures what `train.bleu_every` asks for


USUAL = Options()


def train(
    config: Config,
    prepared: Prepared,
    workdir: pathlib.Path,
    mesh: Mesh,
    options: Options = USUAL,
) -> bool:
    """Trains to `train.num_steps` or an early end, going on from the last checkpoint if any.

    Returns whether it came to one of them: a signal ends it before, with a checkpoint. Raises
    ConfigError or CheckpointError before anything is computed if the run directory is another
    experiment's or the mesh does not fit, TrainingError at a bad step or where a save fails. Of
    many processes each calls it; the first writes, checkpoints are saved by all.
    """
    check(config, mesh.shape)
    check_row_lengths(prepared, config.data)
    run = Run(config, prepared.directory, prepared.fingerprint, prepared.train_pairs)
    check_agreement({"--config": str(to_json(config)), "--data_dir": prepared.fingerprint})
    with contextlib.ExitStack() as stack:
        own_run(workdir, stack)
        start_run(workdir, run, options.change_mixture, is_writer())
        stack.enter_context(jax.set_mesh(mesh))
        wishes = stack.enter_context(Wishes(mesh, config.train.save_minutes))
        return run_steps(config, prepared, workdir, mesh, options, wishes, stack)


def own_run(workdir: pathlib.Path, stack: contextlib.ExitStack) -> None:
    """Locks the run directory while the stack is open. Raises CheckpointError on all processes."""
    error = None
    if is_writer():
        try:
            stack.enter_context(lock_run(workdir, say))
        except CheckpointError as refusal:
            error = refusal
    if not all_true(error is None):
        raise error or CheckpointError(f"{workdir}: process 0 can't have it")


def run_steps(
    config: Config,
    prepared: Prepared,
    workdir: pathlib.Path,
    mesh: Mesh,
    options: Options,
    wishes: Wishes,
    stack: contextlib.ExitStack,
) -> bool:
    """The steps from the last checkpoint on; what it opens, the stack closes."""
    blueprint, optimizer, like = abstract_training(config, prepared.vocab_sizes, mesh)
    checkpoints = stack.enter_context(
        contextlib.closing(Checkpoints(workdir, config.train.max_checkpoints, config.train.best_by))
    )
    rows = share_rows(sharding(mesh, "BL", 2), config.train.batch_rows)
    batches = stack.enter_context(
        contextlib.closing(train_batches(prepared, config.data, rows.num_rows, rows.own))
    )
    found = checkpoints.restore_newest(like.params, like.optimizer, say)
    patience = Patience(config.train.best_by)
    if found is None:
        start, state = 0, initial_state(blueprint, optimizer, config.train.seed)
    else:
        start, params, slots, saved = found
        numbers = (np.int32(start), Watch(*map(np.float32, (*saved["watch"], 0))))
        step, watch = jax.device_put(numbers, like.step.sharding)
        state = TrainState(step, params, slots, watch)
        resume_batches(batches, saved["batches"], workdir, start)
        patience = patience.resumed(saved.get("patience", []))
    describe(config, blueprint, start)
    if patience.is_over(config.train.stop_after):
        say(f"ended early {how_it_ended(patience)}")
        return True
    num_pairs = len(prepared.language_pairs)
    train_step = make_train_step(blueprint, config.train, optimizer, num_pairs)
    train_step = trace_steps(train_step, workdir / "profile", options.profile_steps, start)
    dev_step = make_dev_step(blueprint, config.train, num_pairs)
    dev = Dev(config, prepared, rows, dev_step, options.dev_bleu)
    log = stack.enter_context(contextlib.closing(MetricsLog(workdir, start)))
    sums = StepSums(step_flops(config, blueprint), peak_flops(mesh))
    guard = Guard()
    bar = stack.enter_context(contextlib.closing(progress_bar(start, config.train.num_steps)))
    num_moe_layers = config.model.num_layers // 2 if config.model.moe.num_experts else 0

    def write_line(step: int, with_routing: bool) -> None:
        line = sums.drain(step, num_moe_layers)
        if not line:
            return
        log.write(line)
        if with_routing:
            for line_of_layer in routing_lines(step, sums.routing, prepared.language_pairs):
                log.write_routing(line_of_layer)
        bar.set_postfix_str(f"loss {line['loss']:.3f}, {line['tokens_per_second']:,.0f} tok/s")

    def save(step: int, place: dict, figures: Mapping[str, float]) -> None:
        *watch, _ = (float(number) for number in jax.device_get(state.watch))
        record = {"batches": place, "watch": watch, "patience": list(patience)}
        checkpoints.save(step, state.params, state.optimizer, record, figures)
        wishes.note_save()
        sums.skip_time()

    for step in range(start + 1, config.train.num_steps + 1):
        place = batches.get_state()
        state, metrics = train_step(state, make_global(sums.wait_for(batches), rows))
        sums.add(metrics)
        guard.add(step, place, metrics.verdict)
        bar.update()
        wish, due = wishes.ask(), due_after(step, config)
        stops = wish.stops and step < config.train.num_steps
        saves = due.save or stops or (due.line and wish.saves)
        is_measured = due.nll or due.bleu
        for bad in guard.find_bad(num_open=0 if due.line or saves or is_measured else 1):
            told = write_bad_step(workdir, bad, batches)
            if config.train.bad_steps == "skip":
                say(f"skipped     {told}")
                continue
            write_line(bad.step - 1, True)
            if bad.step - 1 > start:
                if bad.step - 1 not in checkpoints.steps():
                    save(bad.step - 1, bad.place, {})
                checkpoints.wait()
            raise TrainingError(
                f"{told}; it is not taken: the same command comes to it again, with "
                "--config.train.bad_steps=skip it is passed over"
            )
        if due.line or stops:
            check_copies("gradient norm", metrics.grad_norm)
            write_line(step, due.routing or stops)
            checkpoints.check()
        figures = {}
        if is_measured:
            lines = list(dev.lines(state.params, due.nll, due.bleu))
            for dev_line in lines:
                log.write({"step": step, **dev_line})
            figures = mean_figures(lines)
            patience = patience.after(figures)
            if figures:
                say(f"step {step}: " + ", ".join(FIGURES[name] % figures[name] for name in figures))
            sums.skip_time()
        ends_early = patience.is_over(config.train.stop_after)
        if ends_early and not (due.line or stops):
            write_line(step, True)
        if saves or ends_early:
            save(step, batches.get_state(), figures)
        if ends_early:
            say(f"ended early {how_it_ended(patience)}")
            return True
        if stops:
            checkpoints.wait()
            say(f"stopped     after step {step}, which is saved; the same command goes on")
            return False
    return True


FIGURES = {"nll": "dev nll %.4f", "bleu": "dev BLEU %.1f"}


def how_it_ended(patience: Patience) -> str:
    """Says why nothing is trained any more."""
    best = FIGURES[patience.best_by] % patience.best
    return f"{patience.since} times nothing better than {best} (train.stop_after)"


class Due(NamedTuple):
    """What the config has after a step."""

    line: bool
    routing: bool  # with the first line at or behind an evaluation
    nll: bool
    bleu: bool
    save: bool


def due_after(step: int, config: Config) -> Due:
    """Says what is due after a step; after the last one everything is."""
    lengths = config.train
    is_last = step == lengths.num_steps
    line = step % lengths.log_every == 0 or is_last
    before = (step - lengths.log_every) // lengths.eval_every
    return Due(
        line,
        line and (step // lengths.eval_every != before or is_last),
        step % lengths.eval_every == 0 or is_last,
        bool(lengths.bleu_every) and (step % lengths.bleu_every == 0 or is_last),
        step % lengths.save_every == 0 or is_last,
    )


def resume_batches(
    batches: TrainBatches, data_state: dict, workdir: pathlib.Path, step: int
) -> None:
    """Goes on where the checkpoint of a step stood in the data.

    Is that another mixture than the run's now, `start_run` was told to let the new one in: it
    begins here, and `mixtures.jsonl` gets a line. What that says of this step or later ones was
    undone by going back to the checkpoint.
    """
    log = JsonLines(workdir / MIXTURES, step - 1, is_writer())
    if batches.has_mixture_of(data_state):
        batches.set_state(data_state)
    else:
        log.write({"step": step, "old": data_state, "new": batches.change_mixture(data_state)})
        say(f"mixture     changed after step {step} (mixtures.jsonl has the old one)")
    log.close()


def describe(config: Config, blueprint: Blueprint, start: int) -> None:
    """Prints the numbers that follow from the config, before the first step."""
    mesh = blueprint.mesh
    total, active = count_parameters(blueprint)
    grid = " x ".join(f"{name}={size}" for name, size in mesh.shape.items())
    say(f"parameters  {total:,} ({active:,} active per token)")
    say(f"mesh        {grid} ({mesh.devices.flat[0].platform})")
    if jax.process_count() > 1:
        say(f"processes   {jax.process_count()}, each with {jax.local_device_count()} devices")
    rows = config.train.batch_rows
    lengths = {"source": config.data.source_length, "target": config.data.target_length}
    tokens = ", ".join(f"{rows * length:,} {side} tokens" for side, length in lengths.items())
    say(f"batch       {rows} rows: {tokens}")
    if config.model.moe.num_experts:
        moe, size = config.model.moe, config.model.moe.group_size
        capacity = group_capacity(config.model, training_groups(config.model), size)
        groups = " and ".join(str(num_groups(rows * n, size)) for n in lengths.values())
        gates = " and ".join(dict.fromkeys(moe.gate_of(is_dec) for is_dec in (False, True)))
        dispatch = choose_dispatch(moe.dispatch, mesh.devices.flat[0].platform)
        say(f"experts     {moe.num_experts} in every other layer, {gates}, {dispatch}")
        say(f"groups      {groups} of {size} tokens, capacity {capacity} per expert and group")
    if start:
        say(f"resuming    from step {start}")
