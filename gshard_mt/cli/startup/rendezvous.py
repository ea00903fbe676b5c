"""A rendezvous of all processes at process 0's address, so that JAX starts once all are up."""
# SPDX-License-Identifier: Apache-2.0

import contextlib
import socket
import time
from collections.abc import Iterator

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
    deadline = time.monotonic() + timeout
    if process_id == 0:
        _wait_for_others(int(port), num_processes, deadline)
    else:
        greeting = f"{_GREETING} {num_processes} {process_id}"
        _wait_for_first((host.strip("[]"), int(port)), greeting, timeout)


def _wait_for_others(port: int, num_processes: int, deadline: float) -> None:
    with contextlib.ExitStack() as open_sockets:
        try:
            is_dual = socket.has_dualstack_ipv6()
            family = socket.AF_INET6 if is_dual else socket.AF_INET
            server = socket.create_server(("", port), family=family, dualstack_ipv6=is_dual)
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"--coordinator_address: process 0 can't listen on port {port} ({error}); "
                "give all processes another port"
            ) from error
        open_sockets.enter_context(server)
        met: dict[int, socket.socket] = {}
        for connection in _connections(server, deadline):
            open_sockets.enter_context(connection)
            words = _read_line(connection, min(deadline, time.monotonic() + 1)).split()
            if len(words) != 3 or words[0] != _GREETING or not "".join(words[1:]).isdigit():
                continue  # not one of our processes
            num_expected, process_id = map(int, words[1:])
            wrong = _find_mistake(num_expected, process_id, num_processes, met)
            if wrong:
                for other in (connection, *met.values()):
                    _send_line(other, wrong)
                raise ConfigError(wrong)
            met[process_id] = connection
            if len(met) == num_processes - 1:
                break
        wrong = None
        missing = [str(n) for n in range(1, num_processes) if n not in met]
        if missing:
            wrong = (
                f"--num_processes: process {', '.join(missing)} of {num_processes} did not come; "
                "start all of them within --join_timeout, with the same --coordinator_address"
            )
        for connection in met.values():
            _send_line(connection, wrong or "go")
        if wrong:
            raise ConfigError(wrong)


def _find_mistake(num_expected: int, process_id: int, num_processes: int, met) -> str | None:
    if num_expected != num_processes:
        return (
            f"--num_processes: process {process_id} has {num_expected}, process 0 has "
            f"{num_processes}; give all processes the same number"
        )
    if process_id in met:
        return f"--process_id: two processes have {process_id}; give each its own index"
    return None


def _connections(server: socket.socket, deadline: float) -> Iterator[socket.socket]:
    while (left := deadline - time.monotonic()) > 0:
        server.settimeout(left)
        try:
            yield server.accept()[0]
        except TimeoutError:
            return


def _wait_for_first(address: tuple[str, int], greeting: str, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while True:
        try:
            connection = socket.create_connection(address, max(0.1, deadline - time.monotonic()))
            break
        except (OSError, OverflowError) as error:
            if time.monotonic() >= deadline or isinstance(error, OverflowError):
                raise ConfigError(
                    f"--coordinator_address: found no process 0 at {address[0]} port {address[1]} "
                    f"({error}); start it within --join_timeout"
                ) from error
            time.sleep(_RETRY_SECONDS)
    with connection:
        _send_line(connection, greeting)
        # Process 0 is up, so within its own timeout it answers `go` or names who is missing.
        answer = _read_line(connection, time.monotonic() + timeout + 5)
    if answer != "go" and not answer.startswith("--"):
        answer = (
            f"--coordinator_address: whatever listens at {address[0]} port {address[1]} is not "
            "process 0 of this run; give all processes a free port of process 0's machine"
        )
    if answer != "go":
        raise ConfigError(answer)


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
