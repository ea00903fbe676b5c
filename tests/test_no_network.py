"""Whatever the tests start reaches for no other machine (`tests/no_network`)."""
# SPDX-License-Identifier: Apache-2.0

import socket
import subprocess
import sys
import urllib.request

import pytest

ADDRESS = "http://192.0.2.1/"  # for documentation only: nobody has it (RFC 5737)


def test_a_test_that_reaches_for_the_network_fails():
    with pytest.raises(RuntimeError, match="tests reach for no network"):
        urllib.request.urlopen(ADDRESS, timeout=1)
    with pytest.raises(RuntimeError, match=r"getaddrinfo for 'example\.org'"):
        socket.getaddrinfo("example.org", 80)
    with socket.socket() as unconnected, pytest.raises(RuntimeError, match=r"socket\.connect"):
        unconnected.connect(("192.0.2.1", 80))


def test_so_does_a_process_that_it_starts():
    code = f"import urllib.request; urllib.request.urlopen({ADDRESS!r}, timeout=1)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("tests: socket.getaddrinfo for '192.0.2.1'")


def test_this_machine_is_reached():
    with socket.create_server(("localhost", 0)) as server:
        socket.create_connection(server.getsockname()).close()
