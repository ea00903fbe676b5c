"""What the service accepts, how much of it, and how long it waits."""
# SPDX-License-Identifier: Apache-2.0

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds that keep one client, or all of them together, from using up the service."""

    max_body_bytes: int = 1 << 20
    max_sentences: int = 256  # of a request
    max_characters: int = 5000  # of a sentence
    max_waiting: int = 1024  # sentences in the queue
    max_connections: int = 512
    client_seconds: float = 10.0  # for a client to send its request, and to take the answer
    idle_seconds: int = 30  # an open connection without a request
    request_seconds: float = 60.0  # from the queue to the last translation
    gather_seconds: float = 0.005  # a batch waits so long for more sentences
    stop_seconds: float = 5.0  # what is left to do at the end, beside the answers


class RefusedError(Exception):
    """An answer that is no translation: an HTTP status and one line for whoever asked."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None):
        super().__init__(message)
        self.status, self.headers = status, headers or {}


def shorten(text: str) -> str:
    """Returns the text in quotes for a message: one line, and no longer than one reads."""
    return repr(text if len(text) <= 40 else f"{text[:40]}...")
