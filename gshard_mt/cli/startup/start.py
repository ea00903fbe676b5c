"""The order in which a command that computes gets from its flags to JAX's devices."""
# SPDX-License-Identifier: Apache-2.0

import contextlib
import functools
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from absl import flags

from gshard_mt.cli.startup import processes
from gshard_mt.cli.startup.compilation import use_cache
from gshard_mt.cli.startup.memory import keep_buffers, largest_weight
from gshard_mt.config.records import Config

if TYPE_CHECKING:
    from gshard_mt.decode.crew import Crew


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


@contextlib.contextmanager
def start_crew(folder: pathlib.Path, *configs: Config) -> Iterator["Crew"]:
    """Starts JAX in one process or in many, and yields, in the first one only, the crew it leads.

    The others follow it in here, and then exit. Raises ConfigError if their flags differ.
    """
    process = processes.read_process_info()
    start_jax(folder, *configs, join=functools.partial(processes.join, process))
    from gshard_mt.decode.crew import Crew
    from gshard_mt.partitioning.hosts import check_agreement

    crew, is_done = Crew(), False
    if not crew.is_alone:
        check_agreement({f"--{name}": str(value) for name, value in _task()})
    if not crew.is_leader:
        crew.follow()
        sys.exit()
    try:
        yield crew
        is_done = True
    finally:
        crew.end(is_done)


def _task() -> Iterator[tuple[str, object]]:
    """Yields the flags that all processes must share, by name, with their values."""
    for module, members in flags.FLAGS.flags_by_module_dict().items():
        if not module.startswith(("absl.", "gshard_mt.cli.startup.")):
            yield from ((flag.name, flag.value) for flag in members)
