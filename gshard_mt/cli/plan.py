"""gshard-plan: predicts memory, FLOPs and step time of a config on hardware you don't have.

Usage:   gshard-plan --config FILE|NAME [--config.KEY=VALUE ...] --topology TOPOLOGY [--json]
Example: gshard-plan --config gshard:2048e_36l --topology v3:32x32

The training step is traced, and compiled where XLA has a compiler for the topology
(pip install 'gshard-mt[tpu]' for TPUs) or, in place of GPUs, for as many CPU devices; values that
are only estimated are marked with ~.
The exit status is 2 if the step doesn't fit into the memory of a device.
"""
# SPDX-License-Identifier: Apache-2.0

import json
import os
import signal

from absl import flags

from gshard_mt.cli import flags as cli_flags
from gshard_mt.errors import ConfigError

_TOPOLOGY = flags.DEFINE_string(
    "topology",
    None,
    "TPU generation and grid of chips, e.g. v3:32x32, v4:4x4x8, v5p:4x4x8, v5e:4x4, v6e:4x4 or "
    "tpu7x:2x2x1; or a GPU and their number in a host: a100:8, h100:8, h200:8 or b200:8; or a "
    "number of CPU devices, e.g. cpu:8. With config.mesh.dcn_data=2, that of each of two slices, "
    "or hosts of GPUs.",
    required=True,
)
_JSON = flags.DEFINE_bool("json", False, "Print one JSON object instead of text.")
cli_flags.define_config()


def main() -> None:
    """Plans one training step and prints the result."""
    config = cli_flags.read_config()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # XLA's compiler would not be interrupted
    # Local accelerators are left alone; the compiler for TPUs doesn't need one.
    os.environ["JAX_PLATFORMS"] = "cpu"
    from gshard_mt.plan.plan import make_plan
    from gshard_mt.plan.table import as_json, as_lines
    from gshard_mt.plan.topology import has_compiler, parse_topology
    from gshard_mt.run.programs import compile_clock

    compile_clock()
    topology = parse_topology(_TOPOLOGY.value, config.mesh.dcn_data)
    plan = make_plan(config, topology, has_compiler(topology))
    if _JSON.value:
        print(json.dumps(as_json(plan)), flush=True)
    else:
        print("\n".join(as_lines(plan, config)), flush=True)
    if not plan.fits:
        has = f"{plan.memory_bytes / 2**30:,.1f} GiB" if plan.memory_bytes else "less memory"
        is_estimate = "temporary_bytes" in plan.estimated
        kind = ", by an estimate that can be too high" if is_estimate else ""
        raise ConfigError(
            f"--topology: found {topology.name}, whose devices have {has}, accepted: one where the "
            f"step fits ({plan.total_bytes / 2**30:,.1f} GiB{kind})"
        )


entry = cli_flags.command(main)
