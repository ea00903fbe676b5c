"""Plans the models of the GShard paper on the paper's hardware and writes docs/scale.md.

    python scripts/plan_ladder.py --workdir PLANS [--doc docs/scale.md]

Needs the extra `tpu` (XLA's compiler, no TPU) and a few minutes per model. Plans already in PLANS
are reused.
"""
# SPDX-License-Identifier: Apache-2.0

import argparse
import importlib.metadata
import json
import pathlib
import platform
import resource
import subprocess
import sys
import time
from typing import Any, NamedTuple

import jinja2

ROOT = pathlib.Path(__file__).parents[1]
GIB = float(1 << 30)


class Rung(NamedTuple):
    """A model of configs/gshard.py on a topology, with the paper's figures."""

    model: str  # its name in configs/gshard.py
    topology: str
    name: str
    parameters: str = ""
    steps_per_second: str = "–"
    overrides: tuple[str, ...] = ()


LADDER = [
    Rung("128e_12l", "v3:8x8", "MoE(128E, 12L)", "12.5B", "2.16"),
    Rung("128e_36l", "v3:8x8", "MoE(128E, 36L)", "37B", "0.67"),
    Rung("512e_12l", "v3:16x16", "MoE(512E, 12L)", "50B", "3.28"),
    Rung("512e_36l", "v3:16x16", "MoE(512E, 36L)", "150B", "1.05"),
    Rung("2048e_12l", "v3:32x32", "MoE(2048E, 12L)", "200B", "2.15"),
    Rung("2048e_36l", "v3:32x32", "MoE(2048E, 36L)", "600B", "0.72"),
    Rung("2048e_60l", "v3:32x32", "MoE(2048E, 60L), bfloat16", "1T"),
    Rung("dense_96l", "v3:32x32", "T(96L)", "2.3B"),
]
# As many tokens per core as the larger models have: 8 rows of 256.
_SAME_TOKENS = ("train.batch_rows=1024",)
SCALING = {
    layers: [
        Rung(f"128e_{layers}l", "v3:8x8", "128", overrides=_SAME_TOKENS),
        Rung(f"512e_{layers}l", "v3:16x16", "512"),
        Rung(f"2048e_{layers}l", "v3:32x32", "2,048"),
    ]
    for layers in (12, 36)
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=pathlib.Path, required=True, help="folder for the plans")
    parser.add_argument("--doc", type=pathlib.Path, default=ROOT / "docs" / "scale.md")
    options = parser.parse_args()
    options.workdir.mkdir(parents=True, exist_ok=True)
    every = [*LADDER, *(rung for rungs in SCALING.values() for rung in rungs)]
    plans = {rung: plan(rung, options.workdir) for rung in every}
    template = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True).from_string(
        (ROOT / "scripts" / "scale.md.jinja").read_text(encoding="utf-8")
    )
    text = template.render(
        ladder=[row(rung, plans[rung]) for rung in LADDER],
        scaling={
            layers: [row(rung, plans[rung]) for rung in rungs] for layers, rungs in SCALING.items()
        },
        date=time.strftime("%Y-%m-%d"),
        machine=f"{platform.machine()}, Python {platform.python_version()}",
        jax=next(iter(plans.values()))["jax"],
    )
    options.doc.write_text(text, encoding="utf-8")


def plan(rung: Rung, workdir: pathlib.Path) -> dict[str, Any]:
    """Returns gshard-plan's plan and the CPU seconds that it took."""
    path = workdir / f"{'-'.join((rung.model, *rung.overrides))}.json"
    if not path.exists():
        print(f"{rung.model} on {rung.topology}", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "gshard_mt.cli.plan", "--json"]
        command += ["--config", f"{ROOT / 'configs' / 'gshard.py'}:{rung.model}"]
        command += [f"--config.{each}" for each in rung.overrides]
        command += ["--topology", rung.topology]
        before = _cpu_seconds()
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        if not done.stdout:  # a plan that doesn't fit has one, and exit status 2
            sys.exit(done.returncode)
        made = json.loads(done.stdout) | {
            "cpu_seconds": _cpu_seconds() - before,
            "jax": importlib.metadata.version("jax"),
        }
        path.write_text(json.dumps(made, indent=1), encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))


def row(rung: Rung, found: dict[str, Any]) -> dict[str, Any]:
    """Returns the cells of a plan in the units of the tables."""
    line = found["roofline"] or {}
    seconds = line.get("communication_seconds", {})
    step = line.get("step_seconds")
    share = 100 * seconds.get("all-to-all", 0.0) / step if step else None
    moved = found["collective_bytes"]
    return {
        "rung": rung,
        "billions": found["parameters"] / 1e9,
        "cores": found["devices"],
        "arguments": (found["parameter_bytes"] + found["optimizer_bytes"]) / GIB,
        "temporaries": found["temporary_bytes"] / GIB,
        "total": found["total_bytes"] / GIB,
        "fits": found["fits"],
        "compile_seconds": found["compile_seconds"] + found["trace_seconds"],
        "cpu_seconds": found["cpu_seconds"],
        "teraflops": found["flops"] / 1e12,
        "useful": 100 * found["model_flops"] / found["flops"],
        "all_to_all": moved.get("all-to-all", 0.0) / 1e6,
        "all_reduce": moved.get("all-reduce", 0.0) / 1e6,
        "num_all_to_all": found["collective_instructions"].get("all-to-all", 0),
        "compute": 1e3 * line.get("compute_seconds", 0.0),
        "all_to_all_ms": 1e3 * seconds.get("all-to-all", 0.0),
        "all_reduce_ms": 1e3 * seconds.get("all-reduce", 0.0),
        "step": 1e3 * step if step else None,
        "steps_per_second": 1 / step if step else None,
        "share": share,
    }


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
