"""What a request asks for: its JSON body, checked, as sentences."""
# SPDX-License-Identifier: Apache-2.0

import json
from collections.abc import Callable
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


def read_question(body: bytes, limits: Limits, check_language: Callable[[str], None]) -> list[str]:
    """Returns the sentences. `check_language` raises ConfigError for a language that isn't known.

    Raises RefusedError: 400 for no JSON, 422 for what is not of this form, 413 for too much.
    """
    question = _parse(body)
    if not isinstance(question, dict):
        raise RefusedError(422, f"body: found {_kind(question)}, accepted: {ACCEPTED}")
    for name in question:
        if name not in FIELDS:
            raise RefusedError(422, f"{shorten(name)}: unknown field{suggest(name[:40], FIELDS)}")
    _check_source_language(question, check_language)
    if ("text" in question) == ("texts" in question):
        found = "both text and texts" if "text" in question else "neither text nor texts"
        raise RefusedError(422, f"body: found {found}, accepted: {ACCEPTED}")
    if "text" in question:
        return [_checked(question["text"], "text", limits)]
    texts = question["texts"]
    if not isinstance(texts, list):
        raise RefusedError(422, f"texts: found {_kind(texts)}, accepted: a list of strings")
    if len(texts) > limits.max_sentences:
        raise RefusedError(
            413, f"texts: found {len(texts)} sentences, accepted: at most {limits.max_sentences}"
        )
    return [_checked(text, f"texts[{index}]", limits) for index, text in enumerate(texts)]


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise RefusedError(
            400, f"body: not UTF-8 at byte {error.start}, accepted: {ACCEPTED}"
        ) from None
    except RecursionError:
        raise RefusedError(400, f"body: nested too deeply, accepted: {ACCEPTED}") from None
    except ValueError as error:
        raise RefusedError(400, f"body: not JSON ({error}), accepted: {ACCEPTED}") from None


def _check_source_language(question: dict, check_language: Callable[[str], None]) -> None:
    language = question.get("source_language")
    if language is None:  # as if it weren't there
        return
    if not isinstance(language, str):
        raise RefusedError(
            422, f"source_language: found {_kind(language)}, accepted: a code as 'de'"
        )
    try:
        check_language(language[:40])
    except ConfigError as error:
        raise RefusedError(422, str(error)) from None


def _checked(text: Any, place: str, limits: Limits) -> str:
    if not isinstance(text, str):
        raise RefusedError(422, f"{place}: found {_kind(text)}, accepted: a string")
    if len(text) > limits.max_characters:
        raise RefusedError(
            413, f"{place}: found {len(text)} characters, accepted: at most {limits.max_characters}"
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:  # JSON can say \ud800, which is no character
        found = ascii(text[error.start])
        raise RefusedError(
            422, f"{place}: found {found}, half a character, accepted: text"
        ) from None
    return text


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), "a number")
