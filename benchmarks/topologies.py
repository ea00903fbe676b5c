"""Compiles a training step for every TPU family with XLA's own compiler; no TPU is needed.

    python -m benchmarks.topologies [--topologies v5e:2x4 ...] [--all_to_all_chunks 2]

Needs the extra `tpu`. Each topology has eight devices and gets the same small step of a model with
eight experts. Rows have what the compiler says beside what `gshard-plan` estimates without it.
"""
# SPDX-License-Identifier: Apache-2.0

import argparse
import concurrent.futures
import importlib.metadata
import json
import multiprocessing
from typing import Any

from benchmarks.machine import describe_machine
from gshard_mt.config.records import Config, DataConfig, ModelConfig, MoeConfig, TrainConfig
from gshard_mt.partitioning import libtpu
from gshard_mt.plan.plan import StepPlan, make_plan
from gshard_mt.plan.topology import parse_topology

TOPOLOGIES = ("v2:2x2", "v3:2x2", "v4:2x2x2", "v5e:2x4", "v5p:2x2x2", "v6e:2x4", "tpu7x:2x2x1")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--topologies", nargs="+", default=TOPOLOGIES)
    parser.add_argument("--all_to_all_chunks", type=int, default=1)
    flags = parser.parse_args()
    libtpu.use_as_compiler()
    machine = describe_machine()
    versions = {name: importlib.metadata.version(name) for name in ("jax", "libtpu")}
    for name in flags.topologies:
        compiled, estimated = (
            _in_own_process(name, is_compiled, flags.all_to_all_chunks)
            for is_compiled in (True, False)
        )
        print(json.dumps(row(compiled, estimated) | versions | machine), flush=True)


def small_step(num_chunks: int) -> Config:
    """Returns a config whose step compiles in seconds and has all that larger ones have."""
    return Config(
        data=DataConfig(
            source_vocab_size=4096, target_vocab_size=4096, source_length=128, target_length=128
        ),
        model=ModelConfig(
            num_layers=4,
            model_dim=256,
            ffn_dim=1024,
            num_heads=4,
            head_dim=64,
            moe=MoeConfig(num_experts=8, group_size=128, all_to_all_chunks=num_chunks),
        ),
        train=TrainConfig(batch_rows=64, optimizer="adamw"),
    )


def plan(name: str, is_compiled: bool, num_chunks: int) -> StepPlan:
    """Plans the small step for a topology."""
    return make_plan(small_step(num_chunks), parse_topology(name), is_compiled)


def row(compiled: StepPlan, estimated: StepPlan) -> dict[str, Any]:
    """Returns what the compiler says of a step, and the ratios of the estimates to it."""
    moved = [each.collective_bytes["all-to-all"] for each in (compiled, estimated)]
    return {
        "benchmark": "topologies",
        "topology": compiled.topology,
        "chip": compiled.chip,
        "devices": compiled.devices,
        "compile_seconds": round(compiled.compile_seconds or 0.0, 1),
        "temporary_mib": round(compiled.temporary_bytes / 2**20, 1),
        "total_mib": round(compiled.total_bytes / 2**20, 1),
        "all_to_all_instructions": compiled.collective_instructions["all-to-all"],
        "all_to_all_overlap": compiled.overlap and compiled.overlap._asdict(),
        "all_to_all_mb": round(moved[0] / 1e6, 2),
        "estimated_temporaries": round(estimated.temporary_bytes / compiled.temporary_bytes, 2),
        "estimated_all_to_all": round(moved[1] / moved[0], 2),
    }


def _in_own_process(*arguments) -> StepPlan:
    """Plans in a process of its own, since JAX's devices can't be changed in one."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(plan, *arguments).result()


if __name__ == "__main__":
    main()
