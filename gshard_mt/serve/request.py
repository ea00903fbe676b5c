"""Parses and checks the JSON body of a translation request, and describes it."""
# SPDX-License-Identifier: Apache-2.0

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from gshard_mt.decode.translation import LineOptions
from gshard_mt.errors import ConfigError, suggest
from gshard_mt.languages import language_code
from gshard_mt.serve.limits import Limits, RefusedError, shorten

ACCEPTED = '{"text": "..."} or {"texts": ["...", ...]}'
MAX_LENGTH_PENALTY = 10
UNCALIBRATED = ("beam_size", "length_penalty", "prefix")  # change what a confidence depends on
_KINDS = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "true or false",
    type(None): "null",
}


class Question(NamedTuple):
    """What a request asks for."""

    texts: list[str]
    nbest: int
    has_scores: bool
    detects_language: bool
    has_confidence: bool
    options: LineOptions  # of every text


def request_schema(
    limits: Limits, languages: Sequence[str], beam_size: int, is_calibrated: bool
) -> dict[str, Any]:
    """Returns the JSON schema of the bodies that are accepted.

    Other tags of the languages, such as `de-AT`, are accepted, too.
    """
    text = {"type": "string", "maxLength": limits.max_characters}
    beams = {"type": ["integer", "null"], "minimum": 1, "maximum": beam_size}
    switch = {"type": ["boolean", "null"]}
    return {
        "type": "object",
        "properties": {
            "text": {**text, "description": "The same as a list of one."},
            "texts": {"type": "array", "items": text, "maxItems": limits.max_texts},
            "source_language": {
                "enum": [*languages, None],
                "description": "For splitting into sentences. Other tags of a language, such as "
                "`de-AT` and `deu_Latn`, are accepted, too.",
            },
            "detect_language": {**switch, "description": "Answer `source_languages`."},
            "nbest": {**beams, "description": "The most translations of a text: answer `nbest`."},
            "scores": {**switch, "description": "Answer `scores`."},
            "confidence": {
                **(switch if is_calibrated else {"enum": [False, None]}),
                "description": "Answer `confidences`; without the three fields that follow.",
            },
            "beam_size": {**beams, "description": "1 is greedy search."},
            "length_penalty": {
                "type": ["number", "null"],
                "minimum": 0,
                "maximum": MAX_LENGTH_PENALTY,
            },
            "prefix": {
                **text,
                "type": ["string", "null"],
                "description": "English that each translation begins with.",
            },
        },
        "oneOf": [{"required": ["text"]}, {"required": ["texts"]}],
        "anyOf": [
            {"properties": {"confidence": {"enum": [False, None]}}},
            {"properties": {name: {"type": "null"} for name in UNCALIBRATED}},
        ],
        "additionalProperties": False,
        "examples": [{"texts": ["Guten Tag.", "Bis bald."]}],
    }


FIELDS = tuple(request_schema(Limits(), [], 1, True)["properties"])


def read_question(
    body: bytes,
    limits: Limits,
    check_language: Callable[[str], None],
    beam_size: int,
    is_calibrated: bool,
) -> Question:
    """Reads a request; `check_language` raises ConfigError for unknown codes.

    A field that is null is the same as one that is left out.

    Raises RefusedError: 400 for invalid JSON, 422 for JSON of another form.
    """
    fields = _parse(body)
    if not isinstance(fields, dict):
        raise RefusedError(422, f"body: found {_kind(fields)}, accepted: {ACCEPTED}")
    for name in fields:
        if name not in FIELDS:
            raise RefusedError(422, f"{shorten(name)}: unknown field{suggest(name[:40], FIELDS)}")
    language = _read_source_language(fields, check_language)
    beams = _read_integer(fields, "beam_size", beam_size)
    nbest = _read_integer(fields, "nbest", beam_size) or 1
    prefix = "" if fields.get("prefix") is None else _checked(fields["prefix"], "prefix", limits)
    options = LineOptions(prefix, beams, _read_length_penalty(fields), language)
    has_scores, detects = (_read_switch(fields, name) for name in ("scores", "detect_language"))
    has_confidence = _read_confidence(fields, is_calibrated)
    return Question(
        _read_texts(fields, limits), nbest, has_scores, detects, has_confidence, options
    )


def _read_texts(fields: dict, limits: Limits) -> list[str]:
    if ("text" in fields) == ("texts" in fields):
        found = "both text and texts" if "text" in fields else "neither text nor texts"
        raise RefusedError(422, f"body: found {found}, accepted: {ACCEPTED}")
    if "text" in fields:
        return [_checked(fields["text"], "text", limits)]
    texts = fields["texts"]
    if not isinstance(texts, list):
        raise RefusedError(422, f"texts: found {_kind(texts)}, accepted: a list of strings")
    if len(texts) > limits.max_texts:
        raise RefusedError(
            422, f"texts: found {len(texts)} texts, accepted: at most {limits.max_texts}"
        )
    return [_checked(text, f"texts[{index}]", limits) for index, text in enumerate(texts)]


def _read_integer(fields: dict, name: str, most: int) -> int | None:
    value = fields.get(name)
    if value is None or (type(value) in (int, float) and value in range(1, most + 1)):
        return value and int(value)
    found = value if type(value) in (int, float) else _kind(value)
    raise RefusedError(422, f"{name}: found {found}, accepted: an integer from 1 to {most}")


def _read_length_penalty(fields: dict) -> float | None:
    value = fields.get("length_penalty")
    if value is None or (type(value) in (int, float) and 0 <= value <= MAX_LENGTH_PENALTY):
        return value
    found = value if type(value) in (int, float) else _kind(value)
    raise RefusedError(
        422, f"length_penalty: found {found}, accepted: a number from 0 to {MAX_LENGTH_PENALTY}"
    )


def _read_switch(fields: dict, name: str) -> bool:
    value = fields.get(name)
    if value is not None and not isinstance(value, bool):
        raise RefusedError(422, f"{name}: found {_kind(value)}, accepted: true or false")
    return bool(value)


def _read_confidence(fields: dict, is_calibrated: bool) -> bool:
    has_confidence = _read_switch(fields, "confidence")
    if has_confidence and not is_calibrated:
        raise RefusedError(
            422,
            "confidence: found true, accepted: false, since the model isn't calibrated; run "
            "gshard-eval --split dev, then start the service again",
        )
    others = [name for name in UNCALIBRATED if fields.get(name) is not None]
    if has_confidence and others:
        raise RefusedError(422, f"confidence: found with {others[0]}, accepted: without it")
    return has_confidence


def _parse(body: bytes) -> Any:
    try:
        # A byte order mark may come before it: RFC 8259 leaves that to the reader.
        return json.loads(body.decode("utf-8").removeprefix("\ufeff"))
    except UnicodeDecodeError as error:
        raise RefusedError(
            400, f"body: not UTF-8 at byte {error.start}, accepted: {ACCEPTED}"
        ) from None
    except RecursionError:
        raise RefusedError(400, f"body: nested too deeply, accepted: {ACCEPTED}") from None
    except ValueError as error:
        raise RefusedError(400, f"body: not JSON ({error}), accepted: {ACCEPTED}") from None


def _read_source_language(fields: dict, check_language: Callable[[str], None]) -> str | None:
    language = fields.get("source_language")
    if language is None:
        return None
    if not isinstance(language, str):
        raise RefusedError(
            422, f"source_language: found {_kind(language)}, accepted: a language code such as 'de'"
        )
    try:
        check_language(language[:40])
    except ConfigError as error:
        raise RefusedError(422, str(error)) from None
    return language_code(language[:40])


def _checked(text: Any, name: str, limits: Limits) -> str:
    if not isinstance(text, str):
        raise RefusedError(422, f"{name}: found {_kind(text)}, accepted: a string")
    if len(text) > limits.max_characters:
        raise RefusedError(
            422, f"{name}: found {len(text)} characters, accepted: at most {limits.max_characters}"
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:  # JSON can escape a lone surrogate, e.g. \ud800
        found = ascii(text[error.start])
        raise RefusedError(
            422, f"{name}: found the lone surrogate {found}, accepted: text"
        ) from None
    return text


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), "a number")
