"""A transport that sends in one piece what is written to it in one go, such as head and body."""
# SPDX-License-Identifier: Apache-2.0

import asyncio
from typing import Any


class GatheredWrites:
    """Passes everything on to a transport; writes wait until the event loop turns.

    uvicorn writes the head of a response and its body one after the other, and the system would
    send each in a segment of its own.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop):
        self._transport, self._loop = transport, loop
        self._waiting: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(data)

    def close(self) -> None:
        """Sends what is waiting, then closes."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        data = b"".join(self._waiting)
        self._waiting.clear()
        if data:
            self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
