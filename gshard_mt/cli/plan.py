"""gshard-plan: what a config would take on hardware that you don't have.

gshard-plan --config FILE [--config.KEY=VALUE ...] --topology v3:32x32 [--json]
"""
# SPDX-License-Identifier: Apache-2.0

import json
import os

from absl import flags

from gshard_mt.cli import flags as cli_flags

_TOPOLOGY = flags.DEFINE_string(
    "topology",
    None,
    "A TPU's generation and its grid of chips, as v3:32x32, v4:4x4x8, v5p:..., v5e:..., v6e:...; "
    "or cpu:8.",
    required=True,
)
_JSON = flags.DEFINE_bool("json", False, "One JSON object instead of lines for people.")
cli_flags.define_config()


def main(argv) -> None:
    """Compiles the training step for the topology and prints what it takes."""
    del argv
    config = cli_flags.read_config()
    # No accelerator that may be here is asked; the compiler for TPUs needs none.
    os.environ["JAX_PLATFORMS"] = "cpu"
    from gshard_mt.plan.plan import make_plan
    from gshard_mt.plan.table import as_json, as_lines
    from gshard_mt.plan.topology import has_compiler, parse_topology

    topology = parse_topology(_TOPOLOGY.value)
    plan = make_plan(config, topology, topology.platform == "cpu" or has_compiler())
    if _JSON.value:
        print(json.dumps(as_json(plan)))
    else:
        print("\n".join(as_lines(plan, config)))


def entry() -> None:
    """The console script."""
    cli_flags.run(main)


if __name__ == "__main__":
    entry()
