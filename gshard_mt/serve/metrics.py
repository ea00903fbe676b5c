"""What the service counts and times, for Prometheus."""
# SPDX-License-Identifier: Apache-2.0

import time
from collections.abc import Awaitable, Callable, Collection
from typing import Any

import prometheus_client as prometheus

from gshard_mt.decode.translation import Translation

CONTENT_TYPE = prometheus.CONTENT_TYPE_LATEST
OTHER = "other"  # the path of requests for unknown paths, and of those that aren't HTTP
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0)
_SENTENCES = tuple(2**power for power in range(11))

Application = Callable[..., Awaitable[None]]  # ASGI


class Metrics:
    """The metrics of one service, in a registry of their own."""

    def __init__(self):
        self._registry = registry = prometheus.CollectorRegistry()
        self.requests = prometheus.Counter(
            "gshard_requests", "Answered requests.", ("path", "status"), registry=registry
        )
        self.translate_seconds = prometheus.Histogram(
            "gshard_translate_seconds",
            "Seconds from the head of a request to /translate to its answer, if that is 200.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.sentences = prometheus.Counter(
            "gshard_sentences", "Translated sentences.", registry=registry
        )
        self.truncated_sentences = prometheus.Counter(
            "gshard_truncated_sentences",
            "Translated sentences of which only the beginning was read.",
            registry=registry,
        )
        self.batch_sentences = prometheus.Histogram(
            "gshard_batch_sentences", "Sentences of a batch.", buckets=_SENTENCES, registry=registry
        )
        self.batch_seconds = prometheus.Histogram(
            "gshard_batch_seconds",
            "Seconds to translate a batch.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.waiting_sentences = prometheus.Gauge(
            "gshard_waiting_sentences", "Sentences in the queue.", registry=registry
        )
        self.ready = prometheus.Gauge(
            "gshard_ready",
            "1 if the service is ready, 0 while it warms up or stops.",
            registry=registry,
        )
        prometheus.ProcessCollector(registry=registry)

    def count_batch(self, translations: list[Translation], seconds: float) -> None:
        """Counts a batch that was translated."""
        self.batch_sentences.observe(len(translations))
        self.batch_seconds.observe(seconds)
        self.sentences.inc(len(translations))
        self.truncated_sentences.inc(sum(each.is_truncated for each in translations))

    def to_text(self) -> bytes:
        """Returns all of them in Prometheus' text format."""
        return prometheus.generate_latest(self._registry)


class CountedRequests:
    """Counts the requests of an application by path and status, and times translations."""

    def __init__(self, app: Application, metrics: Metrics, paths: Collection[str]):
        self._app, self._metrics, self._paths = app, metrics, paths

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        status, since = 500, time.monotonic()  # what fails before it answers is answered with 500
        path = scope["path"] if scope["path"] in self._paths else OTHER

        async def keep_status(message: dict[str, Any]) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app(scope, receive, keep_status)
        finally:
            self._metrics.requests.labels(path, status).inc()
            if path == "/translate" and status == 200:
                self._metrics.translate_seconds.observe(time.monotonic() - since)
