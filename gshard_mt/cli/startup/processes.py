"""A run of many processes: told by the flags or by the cluster, and joined before JAX starts."""
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

from gshard_mt.cli.startup.rendezvous import meet
from gshard_mt.errors import ConfigError

_COORDINATOR_ADDRESS = flags.DEFINE_string(
    "coordinator_address",
    None,
    "HOST:PORT where process 0 of many waits for the others; needs --num_processes and "
    "--process_id too. TPU pods, SLURM, Open MPI and Kubernetes tell all three by themselves.",
)
_NUM_PROCESSES = flags.DEFINE_integer(
    "num_processes", None, "How many processes train together; 1: alone, whatever the cluster says."
)
_PROCESS_ID = flags.DEFINE_integer(
    "process_id", None, "Which of them this is, from 0; process 0 writes."
)
_JOIN_TIMEOUT = flags.DEFINE_integer(
    "join_timeout", 300, "Seconds that processes wait for each other at the start.", lower_bound=1
)


class Place(NamedTuple):
    """Where a process stands among many; all None is to be asked of the cluster."""

    coordinator_address: str | None = None
    num_processes: int | None = None
    process_id: int | None = None


ALONE = Place(None, 1, 0)


def read_place() -> Place:
    """Returns what the flags say. Raises ConfigError where they don't go together."""
    return check_place(Place(_COORDINATOR_ADDRESS.value, _NUM_PROCESSES.value, _PROCESS_ID.value))


def check_place(place: Place) -> Place:
    """Returns the place, `ALONE` for one of one; refuses what can't be one in a single line."""
    address, num_processes, process_id = place
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
    missing = [f"--{name}" for name, value in place._asdict().items() if value is None]
    if 0 < len(missing) < len(place):
        raise ConfigError(
            f"{', '.join(missing)}: missing; accepted: --coordinator_address, --num_processes and "
            "--process_id together, or none of them"
        )
    match = re.fullmatch(r"(?:[^\s:/]+|\[[0-9a-fA-F:.%]+\]):(\d+)", address or "")
    if address is not None and not (match and 0 < int(match[1]) < 1 << 16):
        raise ConfigError(
            f"--coordinator_address: found {address}, accepted: HOST:PORT, such as 10.0.0.2:8476"
        )
    return place


def join(place: Place, num_cpu_devices: int) -> None:
    """Joins the other processes; does nothing for one alone. To be called before JAX computes.

    Raises ConfigError if they are not there within `--join_timeout`, or the cluster doesn't tell
    who they are.
    """
    if place == ALONE:
        return
    import jax  # looks for TPU chips, and says in the environment if there are none

    cluster = find_cluster(os.environ, is_on_tpu=_is_on_tpu() and not num_cpu_devices)
    if place == Place() and cluster is None:
        return
    logging.getLogger("jax._src.distributed").setLevel(logging.ERROR)  # tells of proxies
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # Else SIGTERM would be noted down and not end the process.
    jax.config.update("jax_enable_preemption_service", False)
    timeout = _JOIN_TIMEOUT.value
    if place.coordinator_address and place.num_processes and place.process_id is not None:
        meet(place.coordinator_address, place.num_processes, place.process_id, timeout)
    if num_cpu_devices or os.environ.get("JAX_PLATFORMS") == "cpu":
        _silence_gloo()
    try:
        with warnings.catch_warnings(action="ignore"):  # of what a cluster lacks: said below
            jax.distributed.initialize(*place, initialization_timeout=timeout)
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        raise ConfigError(_explain(cluster, error)) from error


def _silence_gloo() -> None:
    """Ends what native code says on standard output: Gloo tells of every connection there."""
    sys.stdout.flush()
    sys.stdout = os.fdopen(os.dup(1), "w", buffering=1, encoding=sys.stdout.encoding)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def find_cluster(environment: Mapping[str, str], is_on_tpu: bool) -> str | None:
    """Returns who started this process as one of several; None if nobody did.

    JAX finds out the rest. A step of one task, or a pod that is no indexed job's, is alone.
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


def _is_on_tpu() -> bool:
    return importlib.util.find_spec("libtpu") is not None and "TPU_SKIP_MDS_QUERY" not in os.environ


def _explain(cluster: str | None, error: Exception) -> str:
    """Returns what JAX says of a start that failed in one line, with what to do."""
    lacks_module = cluster == "Kubernetes" and not importlib.util.find_spec("kubernetes")
    said = "the Python package kubernetes is missing" if lacks_module else str(error)
    return (
        f"{cluster or '--coordinator_address'}: could not join the other processes "
        f"({' '.join(said.split())[:200]}); accepted: --coordinator_address, --num_processes and "
        "--process_id, or --num_processes=1"
    )
