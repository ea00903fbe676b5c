"""Dynamic batching: a bounded queue of all clients' sentences, translated by one thread."""
# SPDX-License-Identifier: Apache-2.0

import collections
import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import NamedTuple

from gshard_mt.decode.translation import LineOptions, Translation
from gshard_mt.serve.limits import Limits, RefusedError
from gshard_mt.serve.metrics import Metrics


class Item(NamedTuple):
    """A sentence and what is asked of it."""

    text: str
    nbest: int = 1  # the most translations
    options: LineOptions = LineOptions()


Best = list[Translation]  # of a sentence, best first
Translate = Callable[[list[Item]], list[Best]]  # the translations of each sentence, in order


@dataclass(eq=False)
class _Request:
    """The sentences of one request and their translations so far."""

    items: list[Item]
    future: Future[list[Best]] = field(default_factory=Future)
    found: dict[int, Best] = field(default_factory=dict)
    since: float = field(default_factory=time.monotonic)

    def __post_init__(self):
        self.sizes = [_size(item.text) for item in self.items]
        self.waiting = list(range(len(self.items)))  # indices not yet in a batch


class Batcher:
    """The queue and its thread. Cancelling a future removes its sentences from the queue."""

    def __init__(self, translate: Translate, batch_size: int, limits: Limits):
        self._translate, self._batch_size, self._limits = translate, batch_size, limits
        self._requests: collections.deque[_Request] = collections.deque()
        self.num_waiting = 0  # sentences that are not yet in a batch
        self._changed = threading.Condition()
        self._is_warm = self._is_closed = False
        self._batch_seconds = 1.0  # duration of the last batch
        self.failure: Exception | None = None
        self._thread: threading.Thread | None = None
        self.metrics = Metrics()
        self.metrics.waiting_sentences.set_function(lambda: self.num_waiting)
        self.metrics.ready.set_function(lambda: self.state == "ready")

    @property
    def state(self) -> str:
        """Returns `warming up`, `ready` or `stopping`."""
        if self._is_closed:
            return "stopping"
        return "ready" if self._is_warm else "warming up"

    def start(self, warm_up: Sequence[list[Item]], on_failure: Callable[[], None]) -> None:
        """Starts the thread, which first translates the batches of `warm_up` one by one.

        If one fails, `failure` is set and the queue is closed before `on_failure` is called.
        """
        arguments = (warm_up, on_failure)
        # A daemon thread: process exit must not wait for a compilation.
        self._thread = threading.Thread(target=self._work, args=arguments, daemon=True)
        self._thread.start()

    def submit(self, items: list[Item]) -> Future[list[Best]]:
        """Returns a future of the translations, in order.

        Raises RefusedError if the queue is full or closed.
        """
        request = _Request(items)
        if not items:
            request.future.set_result([])
            return request.future
        with self._changed:
            if self._is_closed:
                headers = {"Retry-After": "5", "Connection": "close"}
                raise RefusedError(503, "service: stopping; try again when it is back", headers)
            if self.num_waiting + len(items) > self._limits.max_waiting:
                batches = self.num_waiting / self._batch_size
                seconds = math.ceil(batches * self._batch_seconds) or 1
                raise RefusedError(
                    503,
                    f"queue: found {self.num_waiting} sentences waiting, accepted: "
                    f"{self._limits.max_waiting} including this request; try again in {seconds} "
                    "seconds",
                    {"Retry-After": str(seconds)},
                )
            self._requests.append(request)
            self.num_waiting += len(items)
            self._changed.notify()
        request.future.add_done_callback(lambda _: self._forget(request))
        return request.future

    def close(self) -> None:
        """Accepts no more sentences; those in the queue are still translated."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()

    def join(self, seconds: float) -> bool:
        """Waits up to `seconds` for the thread to end; returns whether it has."""
        if self._thread:
            self._thread.join(seconds)
        return not (self._thread and self._thread.is_alive())

    def _work(self, warm_up: Sequence[list[Item]], on_failure: Callable[[], None]) -> None:
        try:
            for items in warm_up:
                if not self._is_closed:
                    self._translate(items)
        except Exception as error:
            self.failure = error
            self.close()
            for request in list(self._requests):
                _settle(request, error)
            on_failure()
            return
        self._is_warm = True
        while batch := self._take():
            self._translate_batch(batch)

    def _take(self) -> list[tuple[_Request, int]]:
        """Waits for the next batch; returns none once the queue is closed and empty."""
        batch = []
        with self._changed:
            while not batch:
                self._changed.wait_for(lambda: self._requests or self._is_closed)
                if not self._requests:
                    return []
                self._gather()
                batch = self._choose() if self._requests else []
        return batch

    def _gather(self) -> None:
        """Waits for a full batch, until the oldest request is `gather_seconds` old."""
        end = self._requests[0].since + self._limits.gather_seconds
        while self.num_waiting < self._batch_size and not self._is_closed:
            if (seconds := end - time.monotonic()) <= 0:
                return
            self._changed.wait(seconds)

    def _choose(self) -> list[tuple[_Request, int]]:
        """Takes the next sentence of the first request, and others to fill the batch.

        A batch takes as long as its longest sentence, so only sentences of the same size class or
        a smaller one join, the largest first; among equals, requests take turns.
        """
        first = self._requests[0]
        most = first.sizes[first.waiting[0]]
        fitting = [
            (-request.sizes[index], turn, request, index)
            for request in self._requests
            for turn, index in enumerate(request.waiting)
            if request.sizes[index] <= most
        ]
        fitting.sort(key=lambda each: each[:2])
        batch = [(request, index) for *_, request, index in fitting[: self._batch_size]]
        for request, index in batch:
            request.waiting.remove(index)
        self._requests.rotate(-1)  # the next batch starts with another request
        self._requests = collections.deque(each for each in self._requests if each.waiting)
        self.num_waiting -= len(batch)
        return batch

    def _translate_batch(self, batch: list[tuple[_Request, int]]) -> None:
        since = time.monotonic()
        try:
            found = self._translate([request.items[index] for request, index in batch])
            if len(found) != len(batch) or not all(found):
                raise RuntimeError(f"{len(batch)} sentences gave {len(found)} translations")
        except Exception as error:
            logging.getLogger(__name__).exception("a batch of %d sentences failed", len(batch))
            for request, _ in batch:
                _settle(request, error)
            return
        finally:
            self._batch_seconds = time.monotonic() - since
        self.metrics.count_batch([best[0] for best in found], self._batch_seconds)
        for (request, index), best in zip(batch, found, strict=True):
            request.found[index] = best
            if len(request.found) == len(request.items):
                _settle(request, None)

    def _forget(self, request: _Request) -> None:
        """Removes the rest of a finished or cancelled request from the queue."""
        with self._changed:
            if request in self._requests:
                self._requests.remove(request)
                self.num_waiting -= len(request.waiting)


def _size(text: str) -> int:
    """Returns the size class of a sentence; each class is twice as long as the one before.

    Measured in bytes: in most languages a subword, the unit of decoding, has three or four.
    """
    return (len(text.encode()) // 48).bit_length()


def _settle(request: _Request, error: Exception | None) -> None:
    with contextlib.suppress(InvalidStateError):  # cancelled, or failed with another sentence
        if error:
            request.future.set_exception(error)
        else:
            order = range(len(request.items))
            request.future.set_result([request.found[index] for index in order])
