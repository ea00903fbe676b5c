"""Trains configs/gates.py once per gate and prints docs/gates.md's table.

    python scripts/compare_gates.py --data_dir DATA --workdir RUNS [--steps 2000]

Started again it goes on where it was stopped: finished runs are only read.
"""
# SPDX-License-Identifier: Apache-2.0

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

from gshard_mt.train.metrics import summarize

CONFIG = pathlib.Path(__file__).resolve().parents[1] / "configs" / "gates.py"

# Training gives every choice one slot when the load is even, evaluation twice as many for one
# choice and as many for more.
GATES: dict[str, dict[str, object]] = {
    "top2": {},
    "top2, second_policy all": {"second_policy": "all"},
    "top2, count_rejected": {"count_rejected": True},
    "top1": {"gate": "top1", "capacity_factor": 1.0},
    "top_k, K = 4": {
        "gate": "top_k",
        "num_choices": 4,
        "capacity_factor": 4.0,
        "eval_capacity_factor": 4.0,
    },
    "noisy_top_k": {"gate": "noisy_top_k"},
    "hierarchical, A = 4": {
        "gate": "hierarchical",
        "num_expert_groups": 4,
        "capacity_factor": 4.0,
        "eval_capacity_factor": 4.0,
    },
    "expert_choice, decoder top2": {"gate": "expert_choice", "decoder_gate": "top2"},
    "hash": {"gate": "hash", "capacity_factor": 1.0},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data_dir", type=pathlib.Path, required=True)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--steps", type=int, default=2000)
    flags = parser.parse_args()
    rows = []
    for name, options in GATES.items():
        run = flags.workdir / name.replace(", ", "-").replace(" = ", "").replace(" ", "_")
        overrides = {f"model.moe.{key}": value for key, value in options.items()}
        overrides["train.num_steps"] = flags.steps
        print(f"{name}: {run}", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "gshard_mt.cli.train", "--config", str(CONFIG)]
        command += [f"--config.{key}={value}" for key, value in overrides.items()]
        command += ["--data_dir", str(flags.data_dir), "--workdir", str(run)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        rows.append(read_row(name, run, flags.steps))
    print("| gate | dev nll | to no expert | to 1 | to 2 | to more | max load | entropy |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for row in rows:
        print("| " + " | ".join(row) + " |")


def read_row(name: str, run: pathlib.Path, step: int) -> list[str]:
    """The cells of a finished run: dev nll over pairs, the router's means over its layers."""
    metrics, routing = (
        [json.loads(line) for line in (run / f"{file}.jsonl").read_text().splitlines()]
        for file in ("metrics", "routing")
    )
    nlls = [line["nll"] for line in metrics if (line["step"], line["split"]) == (step, "dev")]
    layers = [summarize(line) for line in routing if line["step"] == step]

    def mean(key: str) -> float:
        return statistics.mean(layer.get(key, 0.0) for layer in layers)

    shares = [mean(f"sent_to_{n}") for n in (0, 1, 2)]
    shares = [f"{share:.1%}" for share in (*shares, 1 - sum(shares))]
    load = f"{mean('max_load'):.2f}"
    return [name, f"{statistics.mean(nlls):.3f}", *shares, load, f"{mean('entropy'):.2f}"]


if __name__ == "__main__":
    main()
