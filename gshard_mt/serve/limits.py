"""Limits of the service: sizes and timeouts, and the error that reports them."""
# SPDX-License-Identifier: Apache-2.0

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds that keep one client, or all together, from exhausting the service."""

    max_body_bytes: int = 1 << 20
    max_texts: int = 256  # per request
    max_characters: int = 1 << 18  # per text
    max_waiting: int = 8192  # sentences in the queue, and in a request
    max_connections: int = 512
    client_seconds: float = 10.0  # for a client to send its request, and to read the answer
    idle_seconds: int = 30  # an open connection without a request
    request_seconds: float = 60.0  # from entering the queue to the last translation
    probe_seconds: float = 20.0  # between two looks whether a client that sends no more still reads
    gather_seconds: float = 0.005  # how long a batch waits for more sentences
    stop_seconds: float = 5.0  # for shutting down, in addition to the pending answers


class RefusedError(Exception):
    """A refused request: an HTTP status and a one-line message for the client."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None):
        super().__init__(message)
        self.status, self.headers = status, headers or {}


def shorten(text: str) -> str:
    """Returns the text in quotes for a message, on one line and truncated."""
    return repr(text if len(text) <= 40 else f"{text[:40]}...")
