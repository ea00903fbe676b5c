"""The description of the service for programs: OpenAPI 3.1."""
# SPDX-License-Identifier: Apache-2.0

import importlib.metadata
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from gshard_mt.serve.limits import Limits
from gshard_mt.serve.request import request_schema

Json = dict[str, Any]

_COUNT = {"type": "integer", "minimum": 0}
_TEXT = {"type": "string"}
# What the connection itself answers, and a failure anywhere in the service.
_EVERYWHERE = {
    400: "Not HTTP/1.1, or a head of more than 64 KiB.",
    408: "The request was not complete in time.",
    500: "The service failed; the traceback is on its standard error.",
    503: "Too many connections.",
}


def describe(limits: Limits, languages: Sequence[str], beam_size: int, is_calibrated: bool) -> Json:
    """Returns the OpenAPI document of a service that reads the languages with these codes."""
    schemas = {
        "Error": _object({"error": {**_TEXT, "description": "One line."}}),
        "Health": _health(),
        "Languages": _object({"languages": _list(_object({"code": _TEXT, "name": _TEXT}))}),
        "Question": request_schema(limits, languages, beam_size, is_calibrated),
        "Translations": _translations(),
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "gshard-serve",
            "description": "Translates into English.",
            "version": importlib.metadata.version("gshard-mt"),
        },
        "servers": [{"url": "."}],  # also under a path of a proxy
        "paths": {
            "/": _get("page", "The web page.", {200: _body("text/html", _TEXT)}),
            "/health": _get(
                "health",
                "Whether the service is ready.",
                {200: _json("Health"), 503: _json("Health", "Error")},
            ),
            "/languages": _get("languages", "The languages.", {200: _json("Languages")}),
            "/metrics": _get("metrics", "For Prometheus.", {200: _body("text/plain", _TEXT)}),
            "/openapi.json": _get(
                "openapi", "This document.", {200: _body("application/json", {"type": "object"})}
            ),
            "/translate": {"post": _translate(limits)},
        },
        "components": {"schemas": schemas},
    }


def _translate(limits: Limits) -> Json:
    too_large = (
        f"More than {limits.max_body_bytes} bytes, or {limits.max_waiting} sentences in all texts."
    )
    refused = {
        400: "Not JSON, not UTF-8, or not HTTP/1.1.",
        413: too_large,
        422: "JSON of another form, or a language that the model doesn't know.",
        503: "The queue is full, the service is stopping, or there are too many connections.",
        504: "No answer in time.",
    }
    operation = _operation("translate", "Translates texts.", {200: _json("Translations")}, refused)
    return operation | {
        "requestBody": {
            "required": True,
            "description": "JSON in UTF-8, whatever the content type says.",
            "content": _json("Question"),
        }
    }


def _get(name: str, summary: str, answers: Mapping[int, Json]) -> Json:
    return {"get": _operation(name, summary, answers)}


def _operation(
    name: str, summary: str, answers: Mapping[int, Json], refused: Mapping[int, str] | None = None
) -> Json:
    refused = _EVERYWHERE | dict(refused or {})
    responses = {
        str(status): {"description": description, "content": _json("Error")}
        for status, description in refused.items()
    }
    for status, content in answers.items():
        description = refused.get(status, HTTPStatus(status).phrase)
        responses[str(status)] = {"description": description, "content": content}
    responses["503"]["headers"] = {
        "Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}
    }
    return {"operationId": name, "summary": summary, "responses": dict(sorted(responses.items()))}


def _health() -> Json:
    return _object(
        {
            "ready": {"type": "boolean"},
            "state": {"enum": ["warming up", "ready", "stopping"]},
            "step": {**_COUNT, "description": "The checkpoint's step of training."},
            "num_languages": _COUNT,
            "num_waiting": {**_COUNT, "description": "Sentences in the queue."},
            "max_waiting": _COUNT,
            "max_nbest": {**_COUNT, "description": "The most translations of a text."},
            "has_confidence": {"type": "boolean", "description": "The model is calibrated."},
        }
    )


def _translations() -> Json:
    candidate = _object({"text": _TEXT, "score": {"type": "number"}})
    language = {"type": ["string", "null"]}
    optional = {
        "truncated": _list(_COUNT, "Indices of texts of which only the beginning was translated."),
        "in_pieces": _list(_COUNT, "Indices of texts with a sentence that was too long at once."),
        "scores": _list({"type": "number"}, "Log-probability divided by the length penalty."),
        "confidences": _list(
            {"type": "number", "minimum": 0, "maximum": 1},
            "Of each text, the share of such translations that are good.",
        ),
        "nbest": _list(_list(candidate), "The translations of each text, best first."),
        "source_languages": _list(language, "The code of each text's language; null: unsure."),
    }
    return _object({"translations": _list(_TEXT, "One for each text, in order.")}, optional)


def _object(required: Json, optional: Json | None = None) -> Json:
    return {
        "type": "object",
        "properties": required | (optional or {}),
        "required": list(required),
        "additionalProperties": False,
    }


def _list(items: Json, description: str = "") -> Json:
    found: Json = {"type": "array", "items": items}
    return found | ({"description": description} if description else {})


def _json(*names: str) -> Json:
    schemas = [{"$ref": f"#/components/schemas/{name}"} for name in names]
    return _body("application/json", schemas[0] if len(schemas) == 1 else {"anyOf": schemas})


def _body(kind: str, schema: Json) -> Json:
    return {kind: {"schema": schema}}
