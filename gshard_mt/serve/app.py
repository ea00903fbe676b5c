"""The ASGI application: translations, health, metrics, languages, and a web page."""
# SPDX-License-Identifier: Apache-2.0

import asyncio
import base64
import hashlib
import importlib.resources
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gshard_mt.decode.sentences import Splitter
from gshard_mt.languages import english_name, source_language
from gshard_mt.run.calibration import ConfidenceCurve
from gshard_mt.run.directory import Run
from gshard_mt.serve.batcher import Batcher, Best, Item
from gshard_mt.serve.limits import Limits, RefusedError, shorten
from gshard_mt.serve.metrics import CONTENT_TYPE, CountedRequests, Metrics
from gshard_mt.serve.openapi import describe
from gshard_mt.serve.request import read_question
from gshard_mt.serve.texts import Texts

PATHS = {
    "/": "GET",
    "/health": "GET",
    "/languages": "GET",
    "/metrics": "GET",
    "/openapi.json": "GET",
    "/translate": "POST",
}
_AUTHORITY = re.compile(r"https?://[^/?#]+", re.IGNORECASE)


class ServedModel(NamedTuple):
    """What a service tells of its model."""

    run: Run
    step: int
    splitter: Splitter
    calibration: ConfidenceCurve | None  # None: no confidence


def build_app(
    model: ServedModel, batcher: Batcher, limits: Limits, cors_origins: Sequence[str] = ()
) -> Starlette:
    """Returns the application for a model; the caller starts the batcher.

    Pages of `cors_origins` may use it from a browser.
    """
    run, calibration = model.run, model.calibration
    is_calibrated = calibration is not None
    codes = sorted(source_language(pair) for pair in run.train_pairs)
    beam_size = run.config.decode.beam_size
    languages = [{"code": code, "name": english_name(code)} for code in codes]

    async def report_health(request: Request) -> Response:
        is_ready = batcher.state == "ready"
        found = {
            "ready": is_ready,
            "state": batcher.state,
            "step": model.step,
            "num_languages": len(languages),
            "num_waiting": batcher.num_waiting,
            "max_waiting": limits.max_waiting,
            "max_nbest": beam_size,
            "has_confidence": is_calibrated,
        }
        return JSONResponse(found, 200 if is_ready else 503)

    async def show_metrics(request: Request) -> Response:
        return Response(batcher.metrics.to_text(), headers={"Content-Type": CONTENT_TYPE})

    async def translate(request: Request) -> Response:
        body = await _read_body(request, limits)
        question = read_question(body, limits, run.check_language, beam_size, is_calibrated)
        texts = await asyncio.to_thread(Texts, question, model.splitter, limits)
        found = await _translate(request, texts.items, batcher, limits)
        return JSONResponse(texts.to_json(found, calibration))

    handlers = {
        "/": _always(_read_page()),
        "/health": report_health,
        "/languages": _always(JSONResponse({"languages": languages})),
        "/metrics": show_metrics,
        "/openapi.json": _always(JSONResponse(describe(limits, codes, beam_size, is_calibrated))),
        "/translate": translate,
    }
    app = Starlette(
        routes=[Route(path, handlers[path], methods=[PATHS[path]]) for path in PATHS],
        exception_handlers={
            RefusedError: _answer_refusal,
            HTTPException: _answer_http_error,
            ClientDisconnect: _answer_disconnect,
            Exception: _answer_bug,
        },
        middleware=_middleware(batcher.metrics, cors_origins),
    )
    app.router.redirect_slashes = False
    return app


def _always(response: Response) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        return response

    return answer


def _middleware(metrics: Metrics, cors_origins: Sequence[str]) -> list[Middleware]:
    """Returns what a request passes through, in this order."""
    found = [
        Middleware(OriginForm),
        Middleware(CountedRequests, metrics=metrics, paths=PATHS),
    ]
    if cors_origins:
        cors = Middleware(
            CORSMiddleware,
            allow_origins=cors_origins,
            allow_methods=["GET", "POST"],
            expose_headers=["Retry-After"],
        )
        found.append(cors)
    return found


class OriginForm:
    """Takes the address out of a target such as `http://host/translate` (RFC 9112, 3.2.2)."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if address := _AUTHORITY.match(scope.get("path", "")):
            path = scope["path"][address.end() :] or "/"
            scope = {**scope, "path": path, "raw_path": path.encode()}
        await self._app(scope, receive, send)


async def _read_body(request: Request, limits: Limits) -> bytes:
    """Returns the body; never holds more than the accepted size. Raises RefusedError."""
    most, body = limits.max_body_bytes, bytearray()
    declared = request.headers.get("content-length", "0")
    too_large = f"accepted: at most {most} bytes; split it into several requests"
    if declared.isdecimal() and int(declared) > most:
        raise RefusedError(413, f"body: found {declared} bytes, {too_large}")
    try:
        async with asyncio.timeout(limits.client_seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    raise RefusedError(413, f"body: found more than {most} bytes, {too_large}")
    except TimeoutError:
        raise RefusedError(
            408,
            f"body: found {len(body)} bytes after {limits.client_seconds:g} seconds, "
            "accepted: the whole body by then",
            {"Connection": "close"},
        ) from None
    return bytes(body)


async def _translate(
    request: Request, items: list[Item], batcher: Batcher, limits: Limits
) -> list[Best]:
    """Returns the translations unless the client leaves first. Raises RefusedError."""
    future = batcher.submit(items)
    translations = asyncio.wrap_future(future)
    left = asyncio.ensure_future(request.receive())  # after the body, only a disconnect can come
    try:
        await asyncio.wait(
            {translations, left},
            timeout=limits.request_seconds,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if translations.done():
            return translations.result()
    except Exception as error:
        raise RefusedError(
            500, f"service: translation failed ({type(error).__name__}); see its log"
        ) from error
    finally:
        left.cancel()
        future.cancel()  # leaves the queue before the client is answered
    if left.done() and not left.cancelled():
        raise ClientDisconnect
    raise RefusedError(504, f"service: found no answer within {limits.request_seconds:g} seconds")


def _read_page() -> Response:
    """Returns the page; its policy allows only its own script, and requests to this service."""
    text = importlib.resources.files("gshard_mt.serve").joinpath("page.html").read_text("utf-8")
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)
    assert script, "page.html: no script"
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    policy = (
        "default-src 'none'; connect-src 'self'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"}
    return HTMLResponse(text, headers=headers)


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": message}, status, headers)


async def _answer_refusal(request: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, RefusedError)
    return _error(refusal.status, str(refusal), refusal.headers)


async def _answer_http_error(request: Request, error: Exception) -> Response:
    """Answers for unknown paths and methods, which the router refuses."""
    assert isinstance(error, HTTPException)
    path, headers = request.url.path, dict(error.headers or {})
    if error.status_code == 405:
        methods = headers.get("Allow", "another")
        return _error(405, f"{path}: found {request.method}, accepted: {methods}", headers)
    accepted = ", ".join(f"{method} {path}" for path, method in PATHS.items())
    message = f"{shorten(path)}: not found, accepted: {accepted}"
    return _error(error.status_code, message, headers)


async def _answer_disconnect(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # only counted: the client has left


async def _answer_bug(request: Request, error: Exception) -> Response:
    return _error(500, f"service: failed ({type(error).__name__}); see its log")
