"""Whether an answer of the service is one that its OpenAPI document describes."""
# SPDX-License-Identifier: Apache-2.0

import re
from typing import Any

import jsonschema_rs

from gshard_mt.serve.limits import Limits
from gshard_mt.serve.openapi import describe

DOCUMENT = describe(Limits(), ["de", "fr", "lb"], beam_size=4, is_calibrated=True)
ERROR = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}


def check(method: str, target: str, status: int, kind: str, content: Any) -> None:
    """Checks an answer; a path or method that isn't described gets an error."""
    path = re.sub(r"^https?://[^/]+", "", target, flags=re.I).partition("?")[0] or "/"
    operation = DOCUMENT["paths"].get(path, {}).get(method.lower())
    if operation:
        contents = operation["responses"][str(status)]["content"]
    else:
        assert status in (404, 405)
        contents = ERROR
    schema = contents[kind.partition(";")[0]]["schema"]
    jsonschema_rs.validate({**schema, "components": DOCUMENT["components"]}, content)
