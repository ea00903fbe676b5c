"""Joining processes: what the flags and the cluster say, and one line where they don't meet."""
# SPDX-License-Identifier: Apache-2.0

import concurrent.futures
import socket

import pytest

from gshard_mt.cli.startup.processes import ALONE, Place, check_place, find_cluster
from gshard_mt.cli.startup.rendezvous import meet
from gshard_mt.errors import ConfigError

ADDRESS = "10.0.0.2:8476"


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (Place(), Place()),
        (Place(None, 1), ALONE),
        (Place(ADDRESS, 1, 0), ALONE),
        (Place(ADDRESS, 2, 1), Place(ADDRESS, 2, 1)),
        (Place("[::1]:8476", 2, 0), Place("[::1]:8476", 2, 0)),
    ],
)
def test_flags_that_go_together_are_a_place(place, expected):
    assert check_place(place) == expected


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (Place(ADDRESS), "--num_processes, --process_id: missing"),
        (Place(None, 2), "--coordinator_address, --process_id: missing"),
        (Place(None, None, 0), "--coordinator_address, --num_processes: missing"),
        (Place(ADDRESS, 2), "--process_id: missing"),
        (Place(ADDRESS, 0, 0), "--num_processes: found 0, accepted: 1 or more"),
        (Place(ADDRESS, 2, 2), "--process_id: found 2, accepted: 0 to 1"),
        (Place(ADDRESS, 2, -1), "--process_id: found -1, accepted: 0 to 1"),
        (Place(None, 1, 1), "--process_id: found 1, accepted: 0 to 0"),
        (Place("10.0.0.2", 2, 0), "--coordinator_address: found 10.0.0.2, accepted: HOST:PORT"),
        (Place("http://a:1", 2, 0), "--coordinator_address: found http://a:1, accepted: HOST:PORT"),
        (Place("a:99999", 2, 0), "--coordinator_address: found a:99999, accepted: HOST:PORT"),
    ],
)
def test_flags_that_dont_go_together_are_one_line(place, message):
    with pytest.raises(ConfigError) as raised:
        check_place(place)
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


def meet_all(places: list[tuple[int, int]], timeout: float = 5) -> list[str]:
    """What each process of (num_processes, process_id) hears: `met` or an error."""
    address = f"localhost:{free_port()}"

    def one(place: tuple[int, int]) -> str:
        try:
            meet(address, *place, timeout)
        except ConfigError as error:
            return str(error)
        return "met"

    with concurrent.futures.ThreadPoolExecutor(len(places)) as pool:
        return list(pool.map(one, places))


def test_processes_meet_in_any_order():
    assert meet_all([(4, 3), (4, 1), (4, 0), (4, 2)]) == ["met"] * 4


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ([(4, 0), (4, 2)], "--num_processes: process 1, 3 of 4 did not come"),
        ([(2, 0), (3, 1)], "--num_processes: process 1 has 3, process 0 2"),
        ([(3, 0), (3, 1), (3, 1)], "--process_id: two processes have 1"),
    ],
)
def test_all_processes_hear_who_is_missing_or_wrong(places, message):
    for heard in meet_all(places, timeout=1):
        assert heard.startswith(message) and "\n" not in heard


def test_a_process_0_that_is_not_there_is_named():
    (heard,) = meet_all([(2, 1)], timeout=0.5)
    assert heard.startswith("--coordinator_address: found no process 0 at localhost port")


def test_a_port_that_another_program_has_is_named():
    with socket.create_server(("", 0)) as server:
        address = f"localhost:{server.getsockname()[1]}"
        with pytest.raises(ConfigError, match="process 0 can't listen at port"):
            meet(address, 2, 0, 1)


def test_strangers_who_knock_are_not_counted():
    port = free_port()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first = pool.submit(meet, f"localhost:{port}", 2, 0, 10)
        while True:
            try:
                with socket.create_connection(("localhost", port)) as stranger:
                    stranger.sendall(b"GET / HTTP/1.1\n")
                break
            except OSError:
                continue
        assert not first.done()
        meet(f"localhost:{port}", 2, 1, 10)
        first.result()
