"""Headless Chromium, and a check of what every test leaves in its tab."""
# SPDX-License-Identifier: Apache-2.0

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.browser.tab import Tab
from tests.serve.serving import SECONDS

expect.set_options(timeout=1000 * SECONDS)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium") or shutil.which("google-chrome")
    assert path, "chromium: not found; `make browser` installs it"
    arguments = ["--host-resolver-rules=MAP elsewhere.test 127.0.0.1"]
    is_sandboxed = os.geteuid() != 0  # it refuses to be for root
    with sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=path, chromium_sandbox=is_sandboxed, args=arguments
        )
        yield browser
        browser.close()


@pytest.fixture(params=[(360, "light"), (1280, "dark")], ids=lambda each: f"{each[0]}px-{each[1]}")
def tab(chromium, request) -> Iterator[Tab]:
    """A tab of one of two widths; what a test leaves in it is checked in the end."""
    width, scheme = request.param
    context = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    tab = Tab(context.new_page())
    yield tab
    tab.check()
    context.close()
