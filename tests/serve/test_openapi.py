"""The OpenAPI document: valid, and what the service does; every answer in these tests obeys it."""
# SPDX-License-Identifier: Apache-2.0

import json
import pathlib
import subprocess
import sys

import jsonschema_rs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as some

from gshard_mt.serve.app import PATHS
from gshard_mt.serve.limits import Limits, RefusedError
from gshard_mt.serve.request import FIELDS, read_question, request_schema
from tests.serve.described import DOCUMENT
from tests.serve.serving import RUN, SECONDS, Translator, serving
from tests.serve.test_service import refused

LIMITS = Limits(max_texts=3, max_characters=5)
SCHEMA = request_schema(LIMITS, ["de", "fr", "lb"], beam_size=4, is_calibrated=True)
VALIDATOR = jsonschema_rs.validator_for(SCHEMA)
WORDS = some.sampled_from(["", "a", "12345", "123456", "ä🙂", "de", "lb", "dee"])
VALUES = some.recursive(
    some.none() | some.booleans() | some.integers(-2, 9) | some.floats(0, 1) | WORDS,
    lambda values: some.lists(values, max_size=4) | some.dictionaries(WORDS, values, max_size=2),
    max_leaves=5,
)
LIKELY = {"text": WORDS, "texts": some.lists(WORDS, max_size=4), "source_language": WORDS}
FIELDS_OF_BODY = {name: LIKELY.get(name, VALUES) | VALUES for name in (*FIELDS, "Text")}


def is_accepted(body: object) -> bool:
    try:
        read_question(json.dumps(body).encode(), LIMITS, RUN.check_language, 4, is_calibrated=True)
    except RefusedError as refusal:
        assert refusal.status == 422
        return False
    return True


@settings(max_examples=1000, derandomize=True, deadline=None)
@example({"text": "12345", "source_language": None})
@example({"texts": ["a"] * 3})
@example({"text": "a", "nbest": 4, "scores": True, "length_penalty": 0.5, "prefix": "the"})
@example({"text": "a", "confidence": True, "nbest": 2, "prefix": None})
@example({"text": "a", "confidence": True, "prefix": ""})
@example({"text": "a", "confidence": False, "beam_size": 2})
@example({"text": "a", "confidence": True, "length_penalty": 1})
@example({"text": "a", "nbest": 5})
@example({"text": "a", "beam_size": 2.0, "detect_language": False})
@example({"text": "a", "length_penalty": 10.5})
@example({"text": "a", "length_penalty": True})
@given(some.fixed_dictionaries({}, optional=FIELDS_OF_BODY) | VALUES)
def test_the_schema_accepts_what_the_service_accepts(body):
    assert VALIDATOR.is_valid(body) == is_accepted(body)


def test_without_a_calibration_no_confidence_is_accepted():
    with serving(Translator(), calibration=None) as served:
        schema = served.ask("/openapi.json").content["components"]["schemas"]["Question"]
        question = {"text": "ab", "confidence": False}
        assert jsonschema_rs.is_valid(schema, question)
        assert served.ask("/translate", question).content == {"translations": ["ba"]}
        question["confidence"] = True
        assert not jsonschema_rs.is_valid(schema, question)
        refusal = refused(served.ask("/translate", question), 422)
        assert "confidence: found true, accepted: false" in refusal
        assert "gshard-eval --split dev" in refusal
        assert served.ask("/health").content["has_confidence"] is False


@pytest.mark.parametrize("body", SCHEMA["examples"])
def test_the_examples_are_accepted(body):
    assert jsonschema_rs.is_valid(DOCUMENT["components"]["schemas"]["Question"], body)


def test_every_path_method_and_field_is_described():
    methods = {path: [each.upper() for each in DOCUMENT["paths"][path]] for path in PATHS}
    assert methods == {path: [method] for path, method in PATHS.items()}
    assert DOCUMENT["paths"].keys() == PATHS.keys()
    assert tuple(SCHEMA["properties"]) == FIELDS


def test_schemathesis_finds_nothing(tmp_path):
    config = pathlib.Path(__file__).with_name("schemathesis.toml")
    words = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "--no-color"]
    with serving(Translator()) as served:
        assert served.ask("/openapi.json").content == DOCUMENT
        address = f"http://127.0.0.1:{served.port}/openapi.json"
        words += ["run", address, "--max-examples=100", "--seed=1"]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert f"Tested: {len(PATHS)}\n" in done.stdout
