"""Plans one training step on hardware that need not be present."""
# SPDX-License-Identifier: Apache-2.0

import copy
import re
import time
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from gshard_mt.config.checks import check
from gshard_mt.config.records import Config
from gshard_mt.data.batches import Batch
from gshard_mt.documents import in_one_line
from gshard_mt.model.blueprint import Blueprint, count_parameters
from gshard_mt.model.cost import step_flops
from gshard_mt.partitioning.hardware import Chip
from gshard_mt.partitioning.mesh import build_mesh, simulate_cpu_devices
from gshard_mt.partitioning.placement import sharding
from gshard_mt.plan.estimates import (
    bytes_per_device,
    estimate_dcn_traffic,
    estimate_temporaries,
    estimate_traffic,
    least_traffic,
)
from gshard_mt.plan.flops import count_flops
from gshard_mt.plan.groups import slice_of_devices
from gshard_mt.plan.overlap import Overlap, count_overlap
from gshard_mt.plan.program import read_traffic
from gshard_mt.plan.roofline import Roofline, roofline
from gshard_mt.plan.topology import Topology, chip_of
from gshard_mt.routing.dispatch import choose_dispatch
from gshard_mt.train.state import abstract_training
from gshard_mt.train.step import make_train_step

GIB = float(1 << 30)
ESTIMATES = ("temporary_bytes", "program_bytes", "collective_bytes", "dcn_bytes")  # if not compiled

_NEEDED = re.compile(r"([\d.]+)([MG])\)? (?:exceeds|of|which)|Used ([\d.]+)([MG])")
_UNITS = {"M": 2.0**20, "G": 2.0**30}
# XLA's compiler for CPUs makes all of bfloat16 float32, collectives included; GPUs have bfloat16.
_GPU_OPTIONS = {"xla_disable_hlo_passes": "float-normalization-bf16"}


@dataclass(kw_only=True)
class StepPlan:
    """What one training step takes. Bytes, FLOPs and collectives are per device and step."""

    topology: str  # of each slice
    slices: int
    chip: str | None
    devices: int
    mesh: dict[str, int]
    parameters: int
    active_parameters: int  # per token
    source_tokens: int  # per step, all devices
    target_tokens: int
    parameter_bytes: float
    optimizer_bytes: float
    temporary_bytes: float = 0.0  # gradients, activations, buffers
    program_bytes: float = 0.0
    memory_bytes: float | None  # of the device; None if unknown
    flops: float  # matrix products in the program
    model_flops: float  # matrix products that the model needs
    collective_bytes: dict[str, float] = field(default_factory=dict)  # inside a slice
    collective_instructions: dict[str, int] = field(default_factory=dict)
    overlap: Overlap | None = None  # of the all-to-alls; None if not compiled for a TPU
    dcn_bytes: dict[str, float] = field(default_factory=dict)  # sent to other slices
    trace_seconds: float
    compile_seconds: float | None = None  # None: not compiled
    roofline: Roofline | None = None
    estimated: list[str] = field(default_factory=list)  # fields that are not from the compiler
    does_not_fit: str = ""  # the compiler's message

    @property
    def total_bytes(self) -> float:
        parts = (self.parameter_bytes, self.optimizer_bytes, self.temporary_bytes)
        return sum(parts) + self.program_bytes

    @property
    def missing_bytes(self) -> float:
        """Bytes beyond the device's memory; 0 if the step fits or the memory is unknown."""
        return max(0.0, self.total_bytes - self.memory_bytes) if self.memory_bytes else 0.0

    @property
    def fits(self) -> bool:
        return not (self.does_not_fit or self.missing_bytes)


def make_plan(config: Config, topology: Topology, is_compiled: bool) -> StepPlan:
    """Plans one step: compiled by XLA for the topology, or only traced and partly estimated.

    XLA can't compile for GPUs that are absent: what is compiled for as many CPU devices in their
    place is an estimate.

    Call it before JAX touches a device. Raises ConfigError if the mesh doesn't fit the topology or
    the config doesn't fit the mesh.
    """
    config = copy.deepcopy(config)
    moe = config.model.moe
    if moe.num_experts:
        moe.dispatch = choose_dispatch(moe.dispatch, topology.platform)
    is_simulated = topology.platform != "tpu" or not is_compiled
    simulate_cpu_devices(topology.num_devices if is_simulated else 1)
    devices = jax.devices() if is_simulated else topology.devices()
    chip = topology.chip if is_simulated else chip_of(topology, devices)
    mesh = build_mesh(*config.mesh.shape(), devices=devices)
    check(config, mesh.shape)
    with jax.set_mesh(mesh):
        plan, blueprint, traced = _trace(config, topology.name, chip, mesh)
        if is_compiled:
            is_gpu = topology.platform == "gpu"
            compiled = _compile(plan, traced, _GPU_OPTIONS if is_gpu else {})
            if compiled:
                _add_compiled(plan, compiled, mesh, is_simulated)
            if is_gpu:
                plan.program_bytes = 0.0
                plan.estimated += ESTIMATES
        else:
            _add_estimates(plan, config, blueprint)
    if chip and not plan.does_not_fit:
        touched = least_traffic(
            config, plan.parameter_bytes, plan.optimizer_bytes, plan.temporary_bytes
        )
        moved = (plan.collective_bytes, sum(plan.dcn_bytes.values()))
        plan.roofline = roofline(chip, topology.grid, plan.flops, touched, *moved)
        plan.estimated.append("roofline")
    return plan


def _trace(
    config: Config, topology: str, chip: Chip | None, mesh: Mesh
) -> tuple[StepPlan, Blueprint, Any]:
    """Traces the training step; returns a plan of all that its shapes determine."""
    data, rows, num_devices = config.data, config.train.batch_rows, mesh.devices.size
    target_size = data.source_vocab_size if data.joint_vocabulary else data.target_vocab_size
    start = time.monotonic()
    blueprint, optimizer, state = abstract_training(
        config, (data.source_vocab_size, target_size), mesh
    )
    step = make_train_step(blueprint, config.train, optimizer)
    traced = step.trace(state, _abstract_batch(config, mesh))
    trace_seconds = time.monotonic() - start
    total, active = count_parameters(blueprint)
    plan = StepPlan(
        topology=topology,
        slices=config.mesh.dcn_data,
        chip=chip.name if chip else None,
        devices=num_devices,
        mesh=dict(mesh.shape),
        parameters=total,
        active_parameters=active,
        source_tokens=rows * data.source_length,
        target_tokens=rows * data.target_length,
        parameter_bytes=bytes_per_device(state.params),
        optimizer_bytes=bytes_per_device(state.opt_state),
        memory_bytes=chip.memory_bytes / chip.devices if chip else None,
        flops=count_flops(traced.jaxpr.jaxpr) / num_devices,
        model_flops=step_flops(config, blueprint) / num_devices,
        trace_seconds=trace_seconds,
    )
    return plan, blueprint, traced


def _compile(plan: StepPlan, traced: Any, options: dict[str, str]) -> Any:
    """Compiles the step; None if the compiler says that it does not fit."""
    start = time.monotonic()
    try:
        return traced.lower().compile(options)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        plan.does_not_fit = in_one_line(error).removeprefix("RESOURCE_EXHAUSTED: ")
        plan.temporary_bytes = _needed(str(error))
        return None
    finally:
        plan.compile_seconds = time.monotonic() - start


def _add_compiled(plan: StepPlan, compiled: Any, mesh: Mesh, is_simulated: bool) -> None:
    """Adds memory and collectives as the compiler reports them."""
    # The compiler for CPUs doesn't know of slices.
    slices = slice_of_devices(mesh) if is_simulated else []
    memory = compiled.memory_analysis()
    kept = memory.output_size_in_bytes - memory.alias_size_in_bytes
    plan.temporary_bytes = float(memory.temp_size_in_bytes + max(0, kept))
    plan.program_bytes = float(memory.generated_code_size_in_bytes)
    text = compiled.as_text()
    for kind, traffic in read_traffic(text, slices).items():
        if traffic.bytes:
            plan.collective_bytes[kind] = traffic.bytes
            plan.collective_instructions[kind] = traffic.instructions
        if traffic.dcn_bytes:
            plan.dcn_bytes[kind] = traffic.dcn_bytes
    if not is_simulated and "all-to-all" in plan.collective_bytes:
        plan.overlap = count_overlap(text)


def _add_estimates(plan: StepPlan, config: Config, blueprint: Blueprint) -> None:
    """Adds estimates of memory and collectives for a step that is not compiled."""
    plan.temporary_bytes = estimate_temporaries(config, plan.parameter_bytes, plan.devices)
    plan.collective_bytes = estimate_traffic(config, blueprint)
    plan.dcn_bytes = estimate_dcn_traffic(blueprint)
    plan.estimated += ESTIMATES


def _needed(message: str) -> float:
    """Returns the bytes of the allocation that failed, from the compiler's message."""
    match = _NEEDED.search(message)
    if not match:
        return 0.0
    number, unit = (match[1], match[2]) if match[1] else (match[3], match[4])
    return float(number) * _UNITS[unit]


def _abstract_batch(config: Config, mesh: Mesh) -> Batch:
    rows = config.train.batch_rows

    def shape(name: str) -> jax.ShapeDtypeStruct:
        is_source = name.startswith("source")
        length = config.data.source_length if is_source else config.data.target_length
        return jax.ShapeDtypeStruct((rows, length), jnp.int32, sharding=sharding(mesh, "BL", 2))

    return Batch(*map(shape, Batch._fields))
