"""Which request bodies are accepted, and the one-line errors for the others."""
# SPDX-License-Identifier: Apache-2.0

import pytest

from gshard_mt.decode.translation import LineOptions
from gshard_mt.serve.limits import Limits, RefusedError
from gshard_mt.serve.request import Question, read_question
from tests.serve.serving import RUN

LIMITS = Limits(max_texts=3, max_characters=10)


def read_all(body: str | bytes) -> Question:
    body = body if isinstance(body, bytes) else body.encode()
    return read_question(body, LIMITS, RUN.check_language, 4, is_calibrated=True)


def read(body: str | bytes) -> list[str]:
    return read_all(body).texts


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"text": "ein Satz"}', ["ein Satz"]),
        ('{"text": ""}', [""]),
        ('{"texts": []}', []),
        ('{"texts": ["a", "", "c"], "source_language": "de"}', ["a", "", "c"]),
        ('{"texts": ["a"], "source_language": null}', ["a"]),
        ('{"texts": ["a"], "source_language": "de-AT"}', ["a"]),
        ('{"texts": ["a"], "source_language": "deu_Latn"}', ["a"]),
        ('{"text": "\\ud83d\\ude42 <b> \\n \\u0000"}', ["🙂 <b> \n \0"]),
        ('{"text": "0123456789"}', ["0123456789"]),
        ('\ufeff{"text": "ein Satz"}', ["ein Satz"]),
        ('\ufeff \r\n{"texts": ["\ufeffa"]}', ["\ufeffa"]),
    ],
)
def test_texts_are_returned_unchanged(body, expected):
    assert read(body) == expected


def test_what_is_asked_is_read():
    plain = read_all('{"text": "a"}')
    assert plain == Question(["a"], 1, False, False, False, LineOptions())
    fields = '"nbest": 3, "scores": true, "beam_size": 2, "length_penalty": 0.5, "prefix": "the", '
    found = read_all(f'{{"text": "a", {fields}"source_language": "deu_Latn"}}')
    assert found == Question(["a"], 3, True, False, False, LineOptions("the", 2, 0.5, "de"))
    assert read_all('{"text": "a", "confidence": true, "prefix": null}').has_confidence


@pytest.mark.parametrize(
    ("body", "status", "expected"),
    [
        ("", 400, "body: not JSON (Expecting value: line 1 column 1 (char 0)), accepted: {"),
        ('{"text": "a"', 400, "body: not JSON ("),
        ('{"text": "a"}'.encode("utf-16"), 400, "body: not UTF-8 at byte 0, accepted: {"),
        ('{"text": "a"}'.encode("utf-16-le"), 400, "body: not JSON ("),
        ('\ufeff\ufeff{"text": "a"}', 400, "body: not JSON ("),
        (b'{"text": "\xff"}', 400, "body: not UTF-8 at byte 10, accepted: {"),
        ("[" * 100_000, 400, "body: "),
        ("1" * 100_000, 400, "body: not JSON ("),
        ("[]", 422, "body: found a list, accepted: {"),
        ("null", 422, "body: found null, accepted: {"),
        ("{}", 422, "body: found neither text nor texts, accepted: {"),
        ('{"text": "a", "texts": []}', 422, "body: found both text and texts, accepted: {"),
        ('{"txet": "a"}', 422, "'txet': unknown field; did you mean text?"),
        ('{"text": "a", "nbest": 5}', 422, "nbest: found 5, accepted: an integer from 1 to 4"),
        ('{"text": "a", "beam_size": "2"}', 422, "beam_size: found a string, accepted: an integer"),
        (
            '{"text": "a", "length_penalty": -1}',
            422,
            "length_penalty: found -1, accepted: a number",
        ),
        ('{"text": "a", "scores": 1}', 422, "scores: found a number, accepted: true or false"),
        ('{"text": "a", "confidence": 1}', 422, "confidence: found a number, accepted: true"),
        (
            '{"text": "a", "confidence": true, "prefix": "the"}',
            422,
            "confidence: found with prefix, accepted: without it",
        ),
        ('{"text": "a", "prefix": []}', 422, "prefix: found a list, accepted: a string"),
        ('{"text": ["a"]}', 422, "text: found a list, accepted: a string"),
        ('{"texts": "a"}', 422, "texts: found a string, accepted: a list of strings"),
        ('{"texts": ["a", 1.5]}', 422, "texts[1]: found a number, accepted: a string"),
        ('{"texts": [true]}', 422, "texts[0]: found true or false, accepted: a string"),
        (
            '{"text": "\\ud800"}',
            422,
            "text: found the lone surrogate '\\ud800', accepted: ",
        ),
        ('{"text": "a", "source_language": 7}', 422, "source_language: found a number, accepted: "),
        ('{"text": "a", "source_language": "dee"}', 422, "source_language: found 'dee', this run "),
        ('{"texts": ["a", "b", "c", "d"]}', 422, "texts: found 4 texts, accepted: at most 3"),
        ('{"text": "01234567890"}', 422, "text: found 11 characters, accepted: at most 10"),
    ],
)
def test_a_bad_body_is_refused_in_one_line(body, status, expected):
    with pytest.raises(RefusedError) as refusal:
        read(body)
    assert refusal.value.status == status
    assert str(refusal.value).startswith(expected) and "\n" not in str(refusal.value)


def test_an_unknown_language_gets_the_nearest_known_one():
    with pytest.raises(RefusedError, match="did you mean lb"):
        read('{"text": "a", "source_language": "lbb"}')
    with pytest.raises(RefusedError) as refusal:
        read('{"text": "a", "source_language": "%s"}' % ("\\n" * 1000))
    assert len(str(refusal.value)) < 200 and "\n" not in str(refusal.value)
