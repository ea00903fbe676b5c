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
from gshard_mt.config.records import Config

if TYPE_CHECKING:
    from gshard_mt.decode.crew import Crew


def start_jax(
    workdir: pathlib.Path,
    config: Config,
    join: Callable[[int], None] = lambda num_cpu_devices: None,
    is_training: bool = False,
) -> None:
    """Imports JAX and configures it for the devices of a config.

    Training simulates as many CPU devices as the config says. All else then has one, since a
    processor translates no faster as several devices, and compiles longer for them.
    Whatever can be refused without JAX should have been by now. `join` joins the other processes,
    if any. Devices are first touched by the caller, in `build_mesh`.
    """
    from gshard_mt.partitioning.mesh import simulate_cpu_devices
    from gshard_mt.run.programs import compile_clock

    num_cpu_devices = config.mesh.num_cpu_devices
    if not is_training:
        num_cpu_devices = min(num_cpu_devices, 1)
    use_cache(workdir)
    join(num_cpu_devices)
    simulate_cpu_devices(num_cpu_devices)
    compile_clock()


@contextlib.contextmanager
def start_crew(folder: pathlib.Path, config: Config) -> Iterator["Crew"]:
    """Starts JAX in one process or in many, and yields, in the first one only, the crew it leads.

    The others follow it in here, and then exit. Raises ConfigError if their flags differ.
    """
    process = processes.read_process_info()
    start_jax(folder, config, functools.partial(processes.join, process))
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
