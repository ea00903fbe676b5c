"""Joining processes: what flags and cluster say, and one line if they don't find each other."""
# SPDX-License-Identifier: Apache-2.0

import concurrent.futures
import socket

import pytest

from gshard_mt.cli.startup.processes import ALONE, ProcessInfo, check_process_info, find_cluster
from gshard_mt.cli.startup.rendezvous import rendezvous
from gshard_mt.errors import ConfigError

ADDRESS = "10.0.0.2:8476"


@pytest.mark.parametrize(
    ("process", "expected"),
    [
        (ProcessInfo(), ProcessInfo()),
        (ProcessInfo(None, 1), ALONE),
        (ProcessInfo(ADDRESS, 1, 0), ALONE),
        (ProcessInfo(ADDRESS, 2, 1), ProcessInfo(ADDRESS, 2, 1)),
        (ProcessInfo("[::1]:8476", 2, 0), ProcessInfo("[::1]:8476", 2, 0)),
    ],
)
def test_flags_that_go_together_are_accepted(process, expected):
    assert check_process_info(process) == expected


@pytest.mark.parametrize(
    ("process", "message"),
    [
        (ProcessInfo(ADDRESS), "--num_processes, --process_id: missing"),
        (ProcessInfo(None, 2), "--coordinator_address, --process_id: missing"),
        (ProcessInfo(None, None, 0), "--coordinator_address, --num_processes: missing"),
        (ProcessInfo(ADDRESS, 2), "--process_id: missing"),
        (ProcessInfo(ADDRESS, 0, 0), "--num_processes: found 0, accepted: 1 or more"),
        (ProcessInfo(ADDRESS, 2, 2), "--process_id: found 2, accepted: 0 to 1"),
        (ProcessInfo(ADDRESS, 2, -1), "--process_id: found -1, accepted: 0 to 1"),
        (ProcessInfo(None, 1, 1), "--process_id: found 1, accepted: 0 to 0"),
        (
            ProcessInfo("10.0.0.2", 2, 0),
            "--coordinator_address: found 10.0.0.2, accepted: HOST:PORT",
        ),
        (
            ProcessInfo("http://a:1", 2, 0),
            "--coordinator_address: found http://a:1, accepted: HOST:PORT",
        ),
        (ProcessInfo("a:99999", 2, 0), "--coordinator_address: found a:99999, accepted: HOST:PORT"),
    ],
)
def test_flags_that_dont_go_together_are_one_line(process, message):
    with pytest.raises(ConfigError) as raised:
        check_process_info(process)
    assert str(raised.value).startswith(message) and "\n" not in str(raised.value)


STEP = {"SLURM_STEP_NODELIST": "n[1-2]", "SLURM_PROCID": "0"}
POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}


@pytest.mark.parametrize(
    ("environment", "is_on_tpu", "expected"),
    [
        ({}, False, None),
        ({}, True, "TPU"),
        ({"SLURM_NTASKS": "2", **STEP}, False, "SLURM"),
        ({"SLURM_NTASKS": "1", **STEP}, False, None),
        ({"SLURM_NTASKS": "2"}, False, None),  # a batch script, not a step of srun
        ({"OMPI_COMM_WORLD_SIZE": "2"}, False, "Open MPI"),
        (POD, False, None),
        (POD | {"JOB_COMPLETION_INDEX": "0"}, False, "Kubernetes"),
        (POD | {"JOB_COMPLETION_INDEX": "0"}, True, "TPU"),  # GKE tells it in TPU's own words
    ],
)
def test_a_process_is_one_of_many_only_where_a_cluster_started_several(
    environment, is_on_tpu, expected
):
    assert find_cluster(environment, is_on_tpu) == expected


def free_port() -> int:
    with socket.create_server(("localhost", 0)) as server:
        return server.getsockname()[1]


def meet_all(processes: list[tuple[int, int]], timeout: float = 5) -> list[str]:
    """What each process of (num_processes, process_id) receives: `met` or an error."""
    address = f"localhost:{free_port()}"

    def one(process: tuple[int, int]) -> str:
        try:
            rendezvous(address, *process, timeout)
        except ConfigError as error:
            return str(error)
        return "met"

    with concurrent.futures.ThreadPoolExecutor(len(processes)) as pool:
        return list(pool.map(one, processes))


def test_processes_meet_in_any_order():
    assert meet_all([(4, 3), (4, 1), (4, 0), (4, 2)]) == ["met"] * 4


@pytest.mark.parametrize(
    ("processes", "message"),
    [
        ([(4, 0), (4, 2)], "--num_processes: process 1, 3 of 4 did not come"),
        ([(2, 0), (3, 1)], "--num_processes: process 1 has 3, process 0 has 2"),
        ([(3, 0), (3, 1), (3, 1)], "--process_id: two processes have 1"),
    ],
)
def test_all_processes_hear_who_is_missing_or_wrong(processes, message):
    for heard in meet_all(processes, timeout=1):
        assert heard.startswith(message) and "\n" not in heard


def test_a_process_0_that_is_not_there_is_named():
    (heard,) = meet_all([(2, 1)], timeout=0.5)
    assert heard.startswith("--coordinator_address: found no process 0 at localhost port")


def test_a_port_that_another_program_has_is_named():
    with socket.create_server(("", 0)) as server:
        address = f"localhost:{server.getsockname()[1]}"
        with pytest.raises(ConfigError, match="process 0 can't listen on port"):
            rendezvous(address, 2, 0, 1)


def test_other_programs_that_connect_are_not_counted():
    port = free_port()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first = pool.submit(rendezvous, f"localhost:{port}", 2, 0, 10)
        while True:
            try:
                with socket.create_connection(("localhost", port)) as other:
                    other.sendall(b"GET / HTTP/1.1\n")
                break
            except OSError:
                continue
        assert not first.done()
        rendezvous(f"localhost:{port}", 2, 1, 10)
        first.result()
