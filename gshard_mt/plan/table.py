"""A plan as lines for the terminal and as one JSON object."""
# SPDX-License-Identifier: Apache-2.0

import dataclasses
from typing import Any

from gshard_mt.config.records import Config
from gshard_mt.plan.plan import GIB, StepPlan
from gshard_mt.plan.topology import GPUS


def as_json(plan: StepPlan) -> dict[str, Any]:
    """Returns the plan's fields and the totals derived from them, in bytes, seconds and FLOPs."""
    found = dataclasses.asdict(plan) | {
        "total_bytes": plan.total_bytes,
        "fits": plan.fits,
        "missing_bytes": plan.missing_bytes,
    }
    if plan.overlap:
        found["overlap"] = plan.overlap._asdict()
    if line := plan.roofline:
        derived = {"step_seconds": line.step_seconds, "bound_by": line.bound_by}
        found["roofline"] = line._asdict() | derived
    return found


def as_lines(plan: StepPlan, config: Config) -> list[str]:
    """Returns the plan for people to read; estimates have a `~`."""

    chip = f" of {plan.chip}" if plan.chip else ""
    parts = "hosts" if plan.topology.split(":")[0] in GPUS else "slices"
    slices = f"{plan.slices} {parts} of " if plan.slices > 1 else ""
    grid = " x ".join(f"{name}={size}" for name, size in plan.mesh.items())
    tokens = f"{plan.source_tokens:,} source and {plan.target_tokens:,} target tokens"
    lines = [
        f"topology    {slices}{plan.topology}: {plan.devices:,} devices{chip}, mesh {grid}",
        f"parameters  {plan.parameters:,} ({plan.active_parameters:,} active per token)",
        f"batch       {config.train.batch_rows:,} rows: {tokens}",
        "memory of each device",
        f"  parameters   {_gib(plan.parameter_bytes)}",
        f"  optimizer    {_gib(plan.optimizer_bytes)}",
        f"  temporaries  {_about(plan, 'temporary_bytes')}{_gib(plan.temporary_bytes)}",
    ]
    if "program_bytes" not in plan.estimated:
        lines.append(f"  program      {_gib(plan.program_bytes)}")
    room = f" of {_gib(plan.memory_bytes)}" if plan.memory_bytes else ""
    lines.append(f"  total        {_about(plan, 'temporary_bytes')}{_gib(plan.total_bytes)}{room}")
    if not plan.fits:
        lines += _what_helps(plan, config)
    lines += [
        "one step on each device",
        f"  FLOPs        {plan.flops:.3e} ({plan.model_flops:.3e} by the model)",
    ]
    lines += _what_is_sent(plan, parts)
    if plan.compile_seconds is None:
        lines.append(
            "compiled     not; pip install 'gshard-mt[tpu]' has the compiler, which finds 0.3 to "
            "0.7 of these temporaries and half of these all-to-alls (docs/benchmarks.md)"
        )
    else:
        for_cpu = ""
        if "temporary_bytes" in plan.estimated:
            for_cpu = f" for {plan.devices} CPU devices, since XLA can't compile for an absent GPU"
        lines.append(f"compiled     in {plan.trace_seconds + plan.compile_seconds:.1f} s{for_cpu}")
    if line := plan.roofline:
        lines.append("roofline     at the published peaks, communication not overlapped")
        lines += [f"  {name:<12} {value * 1e3:,.1f} ms" for name, value in line.seconds.items()]
        step = line.step_seconds
        lines.append(
            f"  step         {step * 1e3:,.1f} ms, {1 / step:,.2f} per second; "
            f"mostly {line.bound_by}"
        )
    if "temporary_bytes" in plan.estimated:
        source = "shapes" if plan.compile_seconds is None else "the program for CPU devices"
        lines.append(f"~ marks an estimate from {source}")
    return lines


def _what_is_sent(plan: StepPlan, parts: str) -> list[str]:
    lines = []
    for kind, size in sorted(plan.collective_bytes.items()):
        number = plan.collective_instructions.get(kind)
        times = f" ({number} in the program)" if number is not None else ""
        lines.append(f"  {kind:<12} {_about(plan, 'collective_bytes')}{size / 1e6:,.1f} MB{times}")
        if kind == "all-to-all" and plan.overlap:
            number, during = plan.overlap
            lines.append(f"    asynchronous {number}, during {during} of which experts compute")
    if plan.slices > 1:
        lines.append(f"sent by each device to other {parts}, over the slow network (dcn)")
    for kind, size in sorted(plan.dcn_bytes.items()):
        lines.append(f"  {kind:<12} {_about(plan, 'dcn_bytes')}{size / 1e6:,.1f} MB")
    return lines


def _what_helps(plan: StepPlan, config: Config) -> list[str]:
    lines = ["does not fit"]
    if plan.missing_bytes:
        lines[0] += f": {_gib(plan.missing_bytes)} too much"
    elif plan.does_not_fit:
        lines[0] += f": {plan.does_not_fit}"
    keys = []
    if config.model.remat != "full":
        keys.append("config.model.remat=full")
    if config.model.dtype != "bfloat16":
        keys.append("config.model.dtype=bfloat16")
    if not config.mesh.shard_parameters:
        keys.append("config.mesh.shard_parameters=true")
    if config.train.accumulation_steps == 1:
        keys.append("config.train.accumulation_steps=2")
    keys += ["a smaller config.train.batch_rows", "more devices"]
    return [*lines, f"  what helps: {', '.join(keys)}"]


def _about(plan: StepPlan, name: str) -> str:
    return "~" if name in plan.estimated else ""


def _gib(num_bytes: float) -> str:
    return f"{num_bytes / GIB:.2f} GiB"
