"""Descriptions: what a run prints about itself before its first step."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import math

import jax
import numpy as np

from gshard_mt.config.records import Config, TrainConfig
from gshard_mt.config.stages import stage_number
from gshard_mt.data.prepared import Prepared
from gshard_mt.model.blueprint import Blueprint, count_parameters
from gshard_mt.model.moe import group_capacity, training_groups
from gshard_mt.routing.dispatch import choose_dispatch
from gshard_mt.train.globs import find_frozen
from gshard_mt.train.metrics import log_line
from gshard_mt.train.optimizer import learning_rate_schedule


def describe(config: Config, blueprint: Blueprint, resumed: int | None) -> None:
    """Prints the numbers derived from the config, before the first step.

    `resumed` is the step of the checkpoint that the run continues from, if it does.
    """
    mesh = blueprint.mesh
    total, active = count_parameters(blueprint)
    grid = " x ".join(f"{name}={size}" for name, size in mesh.shape.items())
    log_line(f"parameters  {total:,} ({active:,} active per token)")
    if config.train.freeze:
        is_frozen = jax.tree.leaves(find_frozen(config.train, blueprint.params))
        sizes = [x.size for x in jax.tree.leaves(blueprint.params)]
        num_frozen = sum(size for size, no in zip(sizes, is_frozen, strict=True) if no)
        log_line(f"frozen      {num_frozen:,} of them, in {sum(is_frozen)} arrays")
    log_line(f"mesh        {grid} ({mesh.devices.flat[0].platform})")
    if jax.process_count() > 1:
        log_line(f"processes   {jax.process_count()}, each with {jax.local_device_count()} devices")
    rows = config.train.batch_rows
    lengths = {"source": config.data.source_length, "target": config.data.target_length}
    tokens = ", ".join(f"{rows * length:,} {side} tokens" for side, length in lengths.items())
    log_line(f"batch       {rows} rows: {tokens}")
    if config.model.moe.num_experts:
        moe, size = config.model.moe, config.model.moe.group_size
        capacity = group_capacity(config.model, training_groups(config.model), size)
        groups = " and ".join(str(rows * n // size) for n in lengths.values())
        gates = " and ".join(dict.fromkeys(moe.gate_of(is_dec) for is_dec in (False, True)))
        dispatch = choose_dispatch(moe.dispatch, mesh.devices.flat[0].platform)
        log_line(f"experts     {moe.num_experts} in every other layer, {gates}, {dispatch}")
        log_line(f"groups      {groups} of {size} tokens, capacity {capacity} per expert and group")
    if resumed is not None:
        log_line(f"resuming    from step {resumed}")


def describe_missing(prepared: Prepared) -> list[str]:
    """Returns a line for each held-out split that is missing for some of the languages."""
    what = {
        "dev": "no dev nll, by which a checkpoint is the best",
        "test": "gshard-eval --split test leaves out what has none",
    }
    missing = {split: prepared.without(split) for split in what}
    return [
        f"no {split:<8} {', '.join(pairs)}: {what[split]}"
        for split, pairs in missing.items()
        if pairs
    ]


def describe_stage(config: TrainConfig, num_taken: int | None, start: int) -> str:
    """Returns what the next step's stage is if it begins there, or if the run resumes there.

    The run has taken `num_taken` steps, the first of them after `start`; it has no stages if that
    is None.
    """
    if num_taken is None:
        return ""
    number = stage_number(config.stages, num_taken + 1)
    first = config.stages[number - 1].until + 1 if number else 1
    if num_taken + 1 not in (first, start + 1):
        return ""
    stage, is_last = config.stages[number], number == len(config.stages) - 1
    last = config.num_steps if is_last else stage.until
    text = f"{number + 1} of {len(config.stages)}, steps {first:,} to {last:,}"
    text += f": learning rate x {stage.rate:g}"
    if stage.temperature:
        text += f", temperature {stage.temperature:g}"
    weights = ", ".join(f"{name} {weight:g}" for name, weight in stage.weights.items())
    return text + (f", weights {weights}" if weights else "")


def describe_change(config: TrainConfig, old_steps: int, start: int) -> str:
    """Returns what happens to the learning rate of a run that is resumed to train longer.

    It was to take `old_steps` and has taken `start`.
    """
    old = dataclasses.replace(config, num_steps=old_steps)
    before, now = (float(np.asarray(learning_rate_schedule(each)(start))) for each in (old, config))
    text = f"{config.num_steps:,} steps instead of {old_steps:,}: the rate continues at {now:.3g}"
    if math.isclose(before, now, rel_tol=1e-6, abs_tol=1e-12):
        return text
    return (
        f"{text}, which {config.schedule} had brought to {before:.3g}; --init_from in another "
        "--workdir begins a schedule of its own"
    )
