"""Parses and checks the JSON body of a translation request, and describes it."""
# SPDX-License-Identifier: Apache-2.0

import json
from collections.abc import Callable, Sequence
from typing import Any

from gshard_mt.errors import ConfigError, suggest
from gshard_mt.serve.limits import Limits, RefusedError, shorten

FIELDS = ("text", "texts", "source_language")
ACCEPTED = '{"text": "..."} or {"texts": ["...", ...]}'
_KINDS = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "true or false",
    type(None): "null",
}


def request_schema(limits: Limits, languages: Sequence[str]) -> dict[str, Any]:
    """Returns the JSON schema of the bodies that are accepted.

    Other tags of the languages, such as `de-AT`, are accepted, too.
    """
    text = {"type": "string", "maxLength": limits.max_characters}
    return {
        "type": "object",
        "properties": {
            "text": {**text, "description": "The same as a list of one."},
            "texts": {"type": "array", "items": text, "maxItems": limits.max_sentences},
            "source_language": {
                "enum": [*languages, None],
                "description": "Only checked. Other tags of a language, such as `de-AT` and "
                "`deu_Latn`, are accepted, too.",
            },
        },
        "oneOf": [{"required": ["text"]}, {"required": ["texts"]}],
        "additionalProperties": False,
        "examples": [{"texts": ["Guten Tag.", "Bis bald."]}],
    }


def read_texts(body: bytes, limits: Limits, check_language: Callable[[str], None]) -> list[str]:
    """Returns the sentences to translate; `check_language` raises ConfigError for unknown codes.

    Raises RefusedError: 400 for invalid JSON, 422 for JSON of another form, 413 for too much text.
    """
    fields = _parse(body)
    if not isinstance(fields, dict):
        raise RefusedError(422, f"body: found {_kind(fields)}, accepted: {ACCEPTED}")
    for name in fields:
        if name not in FIELDS:
            raise RefusedError(422, f"{shorten(name)}: unknown field{suggest(name[:40], FIELDS)}")
    _check_source_language(fields, check_language)
    if ("text" in fields) == ("texts" in fields):
        found = "both text and texts" if "text" in fields else "neither text nor texts"
        raise RefusedError(422, f"body: found {found}, accepted: {ACCEPTED}")
    if "text" in fields:
        return [_checked(fields["text"], "text", limits)]
    texts = fields["texts"]
    if not isinstance(texts, list):
        raise RefusedError(422, f"texts: found {_kind(texts)}, accepted: a list of strings")
    if len(texts) > limits.max_sentences:
        raise RefusedError(
            413, f"texts: found {len(texts)} sentences, accepted: at most {limits.max_sentences}"
        )
    return [_checked(text, f"texts[{index}]", limits) for index, text in enumerate(texts)]


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


def _check_source_language(fields: dict, check_language: Callable[[str], None]) -> None:
    language = fields.get("source_language")
    if language is None:  # the same as leaving it out
        return
    if not isinstance(language, str):
        raise RefusedError(
            422, f"source_language: found {_kind(language)}, accepted: a language code such as 'de'"
        )
    try:
        check_language(language[:40])
    except ConfigError as error:
        raise RefusedError(422, str(error)) from None


def _checked(text: Any, name: str, limits: Limits) -> str:
    if not isinstance(text, str):
        raise RefusedError(422, f"{name}: found {_kind(text)}, accepted: a string")
    if len(text) > limits.max_characters:
        raise RefusedError(
            413, f"{name}: found {len(text)} characters, accepted: at most {limits.max_characters}"
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
