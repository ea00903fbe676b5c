"""A rendezvous of all processes at process 0's address, so that JAX starts once all are up."""
# SPDX-License-Identifier: Apache-2.0

import contextlib
import socket
import time

from gshard_mt.errors import ConfigError

# If a process is missing, JAX aborts with a stack trace; this names the missing one in a line.
# Each process sends `gshard-mt <num_processes> <process_id>` and receives `go` or an error message.

_GREETING = "gshard-mt"
_RETRY_SECONDS = 0.2


def rendezvous(address: str, num_processes: int, process_id: int, timeout: float) -> None:
    """Returns in every process once the last one has come, with the port free again.

    Raises ConfigError, in every process that came, after `timeout` seconds or if their flags
    contradict each other.
    """
    host, _, port = address.rpartition(":")
    if process_id == 0:
        answer = _gather(int(port), num_processes, time.monotonic() + timeout)
    else:
        greeting = f"{_GREETING} {num_processes} {process_id}"
        answer = _report((host.strip("[]"), int(port)), greeting, timeout)
    if answer != "go":
        raise ConfigError(answer)


def _gather(port: int, num_processes: int, deadline: float) -> str:
    """Waits for the other processes and sends all of them the answer that it returns."""
    with contextlib.ExitStack() as open_sockets:
        try:
            is_dual = socket.has_dualstack_ipv6()
            family = socket.AF_INET6 if is_dual else socket.AF_INET
            server = socket.create_server(("", port), family=family, dualstack_ipv6=is_dual)
        except (OSError, OverflowError) as error:
            return (
                f"--coordinator_address: process 0 can't listen on port {port} ({error}); "
                "give all processes another port"
            )
        open_sockets.enter_context(server)
        answer, missing, connections = "", set(range(1, num_processes)), []
        while missing and not answer and (left := deadline - time.monotonic()) > 0:
            server.settimeout(left)
            try:
                connection = open_sockets.enter_context(server.accept()[0])
            except TimeoutError:
                break
            words = _read_line(connection, min(deadline, time.monotonic() + 1)).split()
            if len(words) != 3 or words[0] != _GREETING or not "".join(words[1:]).isdigit():
                continue  # not one of our processes
            connections.append(connection)
            num_expected, process_id = map(int, words[1:])
            if num_expected != num_processes:
                answer = (
                    f"--num_processes: process {process_id} has {num_expected}, process 0 has "
                    f"{num_processes}; give all processes the same number"
                )
            elif process_id not in missing:
                answer = f"--process_id: two processes have {process_id}; give each its own index"
            missing.discard(process_id)
        if missing and not answer:
            absent = ", ".join(map(str, sorted(missing)))
            answer = (
                f"--num_processes: process {absent} of {num_processes} did not come; start all of "
                "them within --join_timeout, with the same --coordinator_address"
            )
        for connection in connections:
            _send_line(connection, answer or "go")
    return answer or "go"


def _report(address: tuple[str, int], greeting: str, timeout: float) -> str:
    """Greets process 0 as soon as it listens; returns its answer, or what is wrong with it."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            connection = socket.create_connection(address, max(0.1, deadline - time.monotonic()))
            break
        except (OSError, OverflowError) as error:
            if time.monotonic() >= deadline or isinstance(error, OverflowError):
                return (
                    f"--coordinator_address: found no process 0 at {address[0]} port {address[1]} "
                    f"({error}); start it within --join_timeout"
                )
            time.sleep(_RETRY_SECONDS)
    with connection:
        _send_line(connection, greeting)
        # Process 0 is up, so within its own timeout it answers `go` or names who is missing.
        answer = _read_line(connection, time.monotonic() + timeout + 5)
    if answer == "go" or answer.startswith("--"):
        return answer
    return (
        f"--coordinator_address: whatever listens at {address[0]} port {address[1]} is not "
        "process 0 of this run; give all processes a free port of process 0's machine"
    )


def _send_line(connection: socket.socket, text: str) -> None:
    with contextlib.suppress(OSError):  # the peer has gone; reading from it reports that
        connection.sendall(text.encode() + b"\n")


def _read_line(connection: socket.socket, deadline: float) -> str:
    """Returns what arrives before the end of the line or the deadline."""
    read = b""
    with contextlib.suppress(OSError):
        while not read.endswith(b"\n") and len(read) < 1000:
            connection.settimeout(max(0.01, deadline - time.monotonic()))
            if not (part := connection.recv(1000)):
                break
            read += part
    return read.decode(errors="replace").strip()
