"""Refuses every connection to another machine, in the tests and in all processes they start.

`tests/conftest.py` puts this folder on PYTHONPATH, where Python looks for a module of this name.
"""
# SPDX-License-Identifier: Apache-2.0

import ipaddress
import socket
import sys


def refuse_network(event: str, arguments: tuple) -> None:
    """An audit hook: raises where a connection or a name is asked for that is not this machine."""
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    if not _is_this_machine(host):
        print(f"tests: {event} for {host!r}", file=sys.stderr)
        raise RuntimeError(f"tests reach for no network: {event} for {host!r}")


def _is_this_machine(host: str | bytes | None) -> bool:
    name = host.decode() if isinstance(host, bytes) else host
    if name in (None, "", "localhost", socket.gethostname()):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


sys.addaudithook(refuse_network)
