"""The HTTP server: its socket, client timeouts and graceful shutdown."""
# SPDX-License-Identifier: Apache-2.0

import asyncio
import errno
import json
import math
import os
import signal
import socket
import sys
from collections.abc import Sequence
from http import HTTPStatus
from types import FrameType

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from gshard_mt.errors import ConfigError
from gshard_mt.serve.batcher import Batcher, Item
from gshard_mt.serve.gathered import GatheredWrites
from gshard_mt.serve.limits import Limits
from gshard_mt.serve.metrics import OTHER, Application, Metrics


def open_socket(host: str, port: int) -> socket.socket:
    """Returns a listening socket; port 0 is any free one. Raises ConfigError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        found.sort(key=lambda each: each[0] != socket.AF_INET)  # IPv4 if a name has both
        family, *_, address = found[0]
        return socket.create_server(address[:2], family=family)  # type: ignore[arg-type]
    except (socket.gaierror, UnicodeError):
        raise ConfigError(
            f"--host: found {host!r}, accepted: a host name or an address of this machine"
        ) from None
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            remedy = f"--host: found {host}, which is not an address of this machine; accepted: one"
            raise ConfigError(f"{remedy} of its own, or 0.0.0.0 for all of them") from None
        if error.errno not in (errno.EADDRINUSE, errno.EACCES, errno.EPERM):
            raise
        what = "is in use" if error.errno == errno.EADDRINUSE else "this user may not open"
        accepted = "accepted: a free port from 1024 on, or 0 for any"
        raise ConfigError(f"--port: found {port}, which {what} on {host}; {accepted}") from None


def address_of(listener: socket.socket) -> str:
    """Returns the URL of a socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Connection(H11Protocol):
    """One client's connection, with time limits for sending the request and reading the answer.

    uvicorn has none for the head of a request, for data after an answer, and for clients that
    don't read; the application has its own for the body.
    """

    limits: Limits
    metrics: Metrics

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(GatheredWrites(transport, self.loop))  # type: ignore[arg-type]
        self._sends: asyncio.TimerHandle | None = None
        self._reads: asyncio.TimerHandle | None = None
        self._probes: asyncio.TimerHandle | None = None
        self._has_ended = False  # the client sends no more, but may still read
        transport.set_write_buffer_limits(high=0)  # call pause_writing for any unread byte
        if len(self.connections) > self.limits.max_connections:
            number = self.limits.max_connections
            self._refuse(503, f"connections: found more than {number}; try again in a second")
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def eof_received(self) -> bool:
        """Keeps the connection if the client has sent whole requests and waits for the answers.

        One that has left looks the same until something is sent to it (RFC 9112, 9.6).
        """
        self._has_ended = True
        if self._owes_answer() and self._probes is None:
            self._probes = self.loop.call_later(self.limits.probe_seconds, self._probe)
        return self._owes_answer()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._has_ended and not self._owes_answer():
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._sends, self._reads = _cancel(self._sends), _cancel(self._reads)
        self._probes = _cancel(self._probes)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reads = self.loop.call_later(self.limits.client_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._reads = _cancel(self._reads)

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "request: not HTTP/1.1, or a head of more than 64 KiB")

    def _watch(self) -> None:
        """Starts the timer while the client has to send more, stops it while we are answering."""
        is_answering = self.cycle is not None and not self.cycle.response_complete
        has_begun = self.cycle is None or self._is_in_body() or self._has_incomplete_head()
        if is_answering or not has_begun or self.transport.is_closing():
            self._sends = _cancel(self._sends)
        elif self._sends is None:
            self._sends = self.loop.call_later(self.limits.client_seconds, self._cut)

    def _owes_answer(self) -> bool:
        """Tells whether a whole request is there that is not answered yet."""
        return not (self.cycle is None or self.cycle.response_complete or self._is_in_body())

    def _probe(self) -> None:
        """Sends an interim answer; if the client has left, the next one ends the connection."""
        self._probes = None
        if self.transport.is_closing() or not self._owes_answer():
            return
        if not self.cycle.response_started and self.scope["http_version"] == "1.1":
            interim = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
            self.transport.write(self.conn.send(interim))
        self._probes = self.loop.call_later(self.limits.probe_seconds, self._probe)

    def _is_in_body(self) -> bool:
        return self.conn.their_state is h11.SEND_BODY

    def _has_incomplete_head(self) -> bool:
        return bool(self.conn.trailing_data[0])

    def _cut(self) -> None:
        if self._has_incomplete_head() and not self._is_in_body():
            seconds = self.limits.client_seconds
            self._refuse(408, f"request: found an incomplete head after {seconds:g} seconds")
        self.transport.close()

    def _refuse(self, status: int, message: str) -> None:
        """Answers without the application and closes the connection."""
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            body = json.dumps({"error": message}).encode()
            lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", "connection: close"]
            lines += ["content-type: application/json", f"content-length: {len(body)}"]
            lines += ["retry-after: 1"] if status == HTTPStatus.SERVICE_UNAVAILABLE else []
            self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
            self.metrics.requests.labels(OTHER, status).inc()
        self.transport.close()


class Service(uvicorn.Server):
    """Serves until a signal, then answers the requests it has accepted."""

    def __init__(self, app: Application, batcher: Batcher, limits: Limits):
        class OwnConnection(Connection):
            pass

        OwnConnection.limits, OwnConnection.metrics = limits, batcher.metrics
        quiet = {"log_config": None, "log_level": "error", "access_log": False}
        plain = {"loop": "asyncio", "ws": "none", "lifespan": "off", "proxy_headers": False}
        super().__init__(
            uvicorn.Config(
                app,
                http=OwnConnection,
                server_header=False,
                timeout_keep_alive=limits.idle_seconds,
                timeout_graceful_shutdown=math.ceil(limits.request_seconds + limits.stop_seconds),
                **quiet,
                **plain,
            )
        )
        self._batcher, self._limits = batcher, limits
        self._signal = 0

    def serve_on(self, listener: socket.socket, warm_up: Sequence[list[Item]]) -> int:
        """Warms up and serves; returns the number of the signal that ended it, or 0.

        Raises the exception of a warm-up that fails.
        """

        def end() -> None:
            self.should_exit = True

        self._batcher.start(warm_up, on_failure=end)
        self.run(sockets=[listener])
        if self._batcher.failure:
            raise self._batcher.failure
        if not self._batcher.join(self._limits.stop_seconds):
            # Still compiling, or translating for clients that have left; a thread can't be stopped.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(128 + self._signal)
        return self._signal

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuses new requests, then has uvicorn wait for the pending answers."""
        self._batcher.close()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handles a signal; a second one ends the process immediately."""
        if self._signal:
            signal.signal(sig, signal.SIG_DFL)
            os.kill(os.getpid(), sig)
        self._signal, self.should_exit = sig, True


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer:
        timer.cancel()
