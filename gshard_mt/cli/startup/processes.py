"""Multi-process runs: found from flags or the cluster environment, joined before JAX starts."""
# SPDX-License-Identifier: Apache-2.0

import importlib.util
import logging
import os
import re
import sys
import warnings
from collections.abc import Mapping
from typing import NamedTuple

from absl import flags

from gshard_mt.cli.startup.rendezvous import rendezvous
from gshard_mt.errors import ConfigError

_COORDINATOR_ADDRESS = flags.DEFINE_string(
    "coordinator_address",
    None,
    "HOST:PORT at which process 0 waits for the others, in a run of several processes; give "
    "--num_processes and --process_id as well. On TPU pods, SLURM, Open MPI and Kubernetes all "
    "three are detected.",
)
_NUM_PROCESSES = flags.DEFINE_integer(
    "num_processes",
    None,
    "Number of processes that work together; 1 ignores any cluster and works alone.",
)
_PROCESS_ID = flags.DEFINE_integer(
    "process_id",
    None,
    "Index of this process, from 0. Process 0 writes the run directory and the terminal.",
)
_JOIN_TIMEOUT = flags.DEFINE_integer(
    "join_timeout", 300, "Seconds to wait for all processes to start.", lower_bound=1
)


_SHUTDOWN_SECONDS = 100  # as long as JAX waits for a sign of life


class ProcessInfo(NamedTuple):
    """Which process of a run this is; all None: ask the cluster environment."""

    coordinator_address: str | None = None
    num_processes: int | None = None
    process_id: int | None = None


ALONE = ProcessInfo(None, 1, 0)


def read_process_info() -> ProcessInfo:
    """Returns the flags' values, checked. Raises ConfigError."""
    return check_process_info(
        ProcessInfo(_COORDINATOR_ADDRESS.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
    )


def check_process_info(process: ProcessInfo) -> ProcessInfo:
    """Returns `process`, or `ALONE` if it is the only one. Raises ConfigError for bad values."""
    address, num_processes, process_id = process
    if num_processes is not None and num_processes < 1:
        raise ConfigError(f"--num_processes: found {num_processes}, accepted: 1 or more")
    if process_id is not None and not 0 <= process_id < (num_processes or process_id + 1):
        accepted = (
            f"0 to {num_processes - 1} (--num_processes={num_processes})"
            if num_processes
            else "0 or more"
        )
        raise ConfigError(f"--process_id: found {process_id}, accepted: {accepted}")
    if num_processes == 1:
        return ALONE
    missing = [f"--{name}" for name, value in process._asdict().items() if value is None]
    if 0 < len(missing) < len(process):
        raise ConfigError(
            f"{', '.join(missing)}: missing; accepted: --coordinator_address, --num_processes and "
            "--process_id together, or none of them"
        )
    match = re.fullmatch(r"(?:[^\s:/]+|\[[0-9a-fA-F:.%]+\]):(\d+)", address or "")
    if address is not None and not (match and 0 < int(match[1]) < 1 << 16):
        raise ConfigError(
            f"--coordinator_address: found {address}, accepted: HOST:PORT, such as 10.0.0.2:8476"
        )
    return process


def join(process: ProcessInfo, num_cpu_devices: int) -> None:
    """Joins the other processes, if there are any. Call it before JAX touches a device.

    Raises ConfigError if some are missing after `--join_timeout` seconds, or if the cluster
    environment doesn't identify them.
    """
    if process == ALONE:
        return
    import jax  # also looks for TPU chips and notes in the environment if there are none

    has_libtpu = importlib.util.find_spec("libtpu") and "TPU_SKIP_MDS_QUERY" not in os.environ
    cluster = find_cluster(os.environ, is_on_tpu=bool(has_libtpu) and not num_cpu_devices)
    if process == ProcessInfo() and cluster is None:
        return
    logging.getLogger("jax._src.distributed").setLevel(logging.ERROR)  # it reports proxies
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # Otherwise JAX would catch SIGTERM, which is ours to handle.
    jax.config.update("jax_enable_preemption_service", False)
    timeout = _JOIN_TIMEOUT.value
    if process.coordinator_address and process.num_processes and process.process_id is not None:
        rendezvous(process.coordinator_address, process.num_processes, process.process_id, timeout)
    if num_cpu_devices or os.environ.get("JAX_PLATFORMS") == "cpu":
        _silence_gloo()
    try:
        with warnings.catch_warnings(action="ignore"):  # about the cluster; see _explain
            jax.distributed.initialize(
                *process,
                initialization_timeout=timeout,
                # A process that ends with an error tells the others, which may never end, after it.
                shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
            )
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        raise ConfigError(_explain(cluster, error)) from error


def _silence_gloo() -> None:
    """Silences native code on standard output, where Gloo reports every connection."""
    sys.stdout.flush()
    sys.stdout = os.fdopen(os.dup(1), "w", buffering=1, encoding=sys.stdout.encoding)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def find_cluster(environment: Mapping[str, str], is_on_tpu: bool) -> str | None:
    """Returns the launcher that started this process as one of several, or None.

    JAX finds out the rest. A step of a single task, or a pod outside an indexed job, is alone.
    """

    def number(name: str) -> int:
        found = environment.get(name, "")
        return int(found) if found.isdigit() else 0

    if number("OMPI_COMM_WORLD_SIZE") > 1:
        return "Open MPI"
    if number("SLURM_NTASKS") > 1 and "SLURM_STEP_NODELIST" in environment:
        return "SLURM"
    if is_on_tpu:
        return "TPU"
    if "KUBERNETES_SERVICE_HOST" in environment and "JOB_COMPLETION_INDEX" in environment:
        return "Kubernetes"
    return None


def _explain(cluster: str | None, error: Exception) -> str:
    """Returns JAX's error as one line with a remedy."""
    lacks_module = cluster == "Kubernetes" and not importlib.util.find_spec("kubernetes")
    reason = "the Python package kubernetes is missing" if lacks_module else str(error)
    return (
        f"{cluster or '--coordinator_address'}: could not join the other processes "
        f"({' '.join(reason.split())[:200]}); accepted: --coordinator_address, --num_processes and "
        "--process_id, or --num_processes=1"
    )
