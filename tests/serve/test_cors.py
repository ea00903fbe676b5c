"""Pages of other origins: which of them a browser lets read the answers."""
# SPDX-License-Identifier: Apache-2.0

import http.client

import pytest

from gshard_mt.serve.limits import Limits
from tests.serve.serving import SECONDS, Translator, serving

SITE, OTHER = "https://site.org", "https://other.org"
ALLOWED = "access-control-allow-origin"


def send(
    port: int, method: str, path: str, origin: str, body: str | None = None, **more: str
) -> tuple[int, dict[str, str]]:
    """Sends a request as a browser does for a page of an origin; returns status and headers."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    try:
        headers = {"Origin": origin} | {key.replace("_", "-"): more[key] for key in more}
        client.request(method, path, body, headers)
        response = client.getresponse()
        response.read()
        return response.status, {key.lower(): value for key, value in response.headers.items()}
    finally:
        client.close()


def preflight(port: int, origin: str, header: str = "content-type") -> tuple[int, dict[str, str]]:
    asked = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": header}
    return send(port, "OPTIONS", "/translate", origin, **asked)


def test_without_the_flag_no_other_page_is_allowed():
    with serving(Translator()) as served:
        status, headers = send(served.port, "POST", "/translate", SITE, '{"text": "a"}')
        assert status == 200 and ALLOWED not in headers
        status, headers = preflight(served.port, SITE)
        assert status == 405 and ALLOWED not in headers


@pytest.mark.parametrize("origins", [[SITE], [OTHER, SITE], ["*"]])
def test_an_allowed_page_may_ask_and_read(origins):
    with serving(Translator(), Limits(max_waiting=1), cors_origins=origins) as served:
        status, headers = preflight(served.port, SITE)
        assert status == 200 and headers[ALLOWED] in (SITE, "*")
        assert "POST" in headers["access-control-allow-methods"]
        assert "Content-Type" in headers["access-control-allow-headers"]
        for path, body in (("/translate", '{"text": "a"}'), ("/translate", "{"), ("/other", "{}")):
            _, headers = send(served.port, "POST", path, SITE, body)
            assert headers[ALLOWED] in (SITE, "*")
        status, headers = send(served.port, "POST", "/translate", SITE, '{"texts": ["a", "b"]}')
        assert status == 413 and headers["access-control-expose-headers"] == "Retry-After"
        assert send(served.port, "GET", "/languages", SITE)[1][ALLOWED] in (SITE, "*")


def test_any_other_page_is_not_allowed():
    with serving(Translator(), cors_origins=[SITE]) as served:
        for origin in (OTHER, "null", f"{SITE}.evil.org", "http://site.org", f"{SITE}:444"):
            status, headers = preflight(served.port, origin)
            assert status == 400 and ALLOWED not in headers
            _, headers = send(served.port, "POST", "/translate", origin, '{"text": "a"}')
            assert ALLOWED not in headers and headers["vary"] == "Origin"
        assert preflight(served.port, SITE, "x-other")[0] == 400
        # Without an origin, it is not a page that asks.
        assert served.translate("ab").content == {"translations": ["ba"]}
