"""A service around a translator that is made up, and clients that speak HTTP by hand."""
# SPDX-License-Identifier: Apache-2.0

import contextlib
import http.client
import json
import pathlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from gshard_mt.config.records import Config
from gshard_mt.decode.sentences import Sentences
from gshard_mt.decode.translation import Translation
from gshard_mt.run.calibration import ConfidenceCurve
from gshard_mt.run.directory import Run
from gshard_mt.serve.app import ServedModel, build_app
from gshard_mt.serve.batcher import Batcher, Item
from gshard_mt.serve.limits import Limits
from gshard_mt.serve.service import Service, open_socket
from tests.serve import described

RUN = Run(Config(), pathlib.Path("data"), "fingerprint", {"de-en": 9, "fr-en": 5, "lb-en": 1})
CURVE = ConfidenceCurve(2.0, 3.0, 100, {})
WARM_UP = [[Item("warm-up")]]
SECONDS = 60  # after which a test gives up


class OneSentence:
    """Takes every text for one sentence, and for German if it is long."""

    def split(self, texts: Sequence[str], languages: Sequence[str | None]) -> list[Sentences]:
        return [Sentences([text], ["", ""]) if text else Sentences([], [""]) for text in texts]

    def identify(self, texts: Sequence[str]) -> list[str | None]:
        return ["de" if len(text) > 9 else None for text in texts]


def turned_around(*texts: str) -> list[Translation]:
    """Translations by `Translator`; a text with `endless` in it is truncated."""
    return [Translation(text[::-1], 0.0, "endless" in text, mean=-len(text)) for text in texts]


def alternatives(item: Item) -> list[Translation]:
    """Translations of a sentence by `Translator`, as many as are asked for."""
    [best] = turned_around(item.text)
    return [best, *(best._replace(text=f"{best.text} {k}", score=-k) for k in range(1, item.nbest))]


class Translator:
    """Turns a text around. It can be held; a text with `boom` in it fails."""

    def __init__(self):
        self.batches: list[list[str]] = []
        self.items: list[Item] = []  # of all batches
        self._may_go_on = threading.Event()
        self._may_go_on.set()

    def __call__(self, items: list[Item]) -> list[list[Translation]]:
        texts = [item.text for item in items]
        self.batches.append(texts)
        self.items += items
        assert self._may_go_on.wait(SECONDS)
        if any("boom" in text for text in texts):
            raise ArithmeticError("boom")
        return list(map(alternatives, items))

    def hold(self) -> None:
        self._may_go_on.clear()

    def go_on(self) -> None:
        self._may_go_on.set()


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    content: Any  # what the JSON says, or the text of a page


class Served(NamedTuple):
    """A service at work."""

    port: int
    service: Service
    batcher: Batcher
    thread: threading.Thread

    def ask(self, path: str, body: Any = None, method: str = "") -> Answer:
        return ask(self.port, path, body, method)

    def translate(self, *texts: str) -> Answer:
        return self.ask("/translate", {"texts": texts})


@contextlib.contextmanager
def serving(
    translate: Callable[[list[Item]], list[list[Translation]]],
    limits: Limits = Limits(),  # noqa: B008 (it is frozen)
    batch_size: int = 4,
    awaits_ready: bool = True,
    cors_origins: Sequence[str] = (),
    splitter: Any = OneSentence(),  # noqa: B008 (it has no state)
    calibration: ConfidenceCurve | None = CURVE,
) -> Iterator[Served]:
    """Serves on a free port in a thread, until the end of the block."""
    batcher = Batcher(translate, batch_size, limits)
    model = ServedModel(RUN, 7, splitter, calibration)
    service = Service(build_app(model, batcher, limits, cors_origins), batcher, limits)
    listener = open_socket("127.0.0.1", 0)
    port = listener.getsockname()[1]
    thread = threading.Thread(target=service.serve_on, args=(listener, WARM_UP), daemon=True)
    thread.start()
    try:
        if awaits_ready:
            wait_until(lambda: batcher.state == "ready")
        yield Served(port, service, batcher, thread)
    finally:
        if isinstance(translate, Translator):
            translate.go_on()
        service.should_exit = True
        thread.join(SECONDS)
    assert not thread.is_alive()


def ask(port: int, path: str, body: Any = None, method: str = "") -> Answer:
    """Asks in a connection of its own; a body that isn't bytes becomes JSON.

    The answer must be one that the OpenAPI document describes.
    """
    method = method or ("GET" if body is None else "POST")
    body = body if body is None or isinstance(body, bytes) else json.dumps(body)
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        client.request(method, path, body)
        answer = read_answer(client.getresponse())
    finally:
        client.close()
    kind = answer.headers["content-type"]
    described.check(method, path, answer.status, kind, answer.content)
    return answer


def read_answer(response: http.client.HTTPResponse) -> Answer:
    text, kind = response.read().decode(), response.headers["content-type"]
    content = json.loads(text) if kind == "application/json" and text else text
    return Answer(response.status, {k.lower(): v for k, v in response.headers.items()}, content)


def connect(port: int, sent: bytes = b"") -> socket.socket:
    """A client that has sent some bytes so far."""
    client = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
    client.sendall(sent)
    return client


def receive(client: socket.socket) -> Answer:
    """The answer to what a client has sent."""
    response = http.client.HTTPResponse(client)
    response.begin()
    return read_answer(response)


def post(body: bytes, length: int | None = None) -> bytes:
    """A request to translate as it goes over the wire; `length` is what it says of itself."""
    length = len(body) if length is None else length
    return b"POST /translate HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n" % length + body


def wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < end, "nothing happens any more"
        time.sleep(0.002)


def in_threads(number: int, function: Callable[[int], Any]) -> list[threading.Thread]:
    """Calls the function with 0, 1, ... at once; whoever needs the results has it keep them."""
    threads = [threading.Thread(target=function, args=(each,)) for each in range(number)]
    for thread in threads:
        thread.start()
    return threads
