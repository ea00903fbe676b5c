"""The order in which a command that computes gets from its flags to JAX's devices."""
# SPDX-License-Identifier: Apache-2.0

import pathlib
from collections.abc import Callable

from gshard_mt.cli.startup.compilation import use_cache
from gshard_mt.cli.startup.memory import keep_buffers, largest_weight
from gshard_mt.config.records import Config


def start_jax(
    workdir: pathlib.Path,
    *configs: Config,
    join: Callable[[int], None] = lambda num_cpu_devices: None,
) -> bool:
    """Imports and configures JAX for the models of `configs`; the first one chooses the devices.

    Returns whether buffers are kept between steps. Whatever can be refused without JAX should have
    been by now: the process may start itself again here. `join` joins the other processes, if any.
    Devices are first touched by the caller, in `build_mesh`.
    """
    is_kept = keep_buffers(max(map(largest_weight, configs)))  # before JAX: it may exec
    from gshard_mt.partitioning.mesh import simulate_cpu_devices
    from gshard_mt.run.programs import compile_clock

    num_cpu_devices = configs[0].mesh.num_cpu_devices
    use_cache(workdir)
    join(num_cpu_devices)
    simulate_cpu_devices(num_cpu_devices)
    compile_clock()
    return is_kept
