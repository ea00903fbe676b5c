"""A tab of the browser that notes what goes wrong in it."""
# SPDX-License-Identifier: Apache-2.0

from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import ConsoleMessage, Dialog, Locator, Page


class Tab:
    """A page with its requests and errors so far."""

    def __init__(self, page: Page):
        self.page = page
        self.requests: list[str] = []
        self.errors: list[str] = []  # on the console, uncaught, or as a dialog
        self.expected_errors: list[str] = []  # the beginnings of those that a test provokes
        self.address = ""
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("dialog", self._dismiss)

    def open(self, address: str) -> None:
        self.address = address
        self.page.goto(address)

    def check(self) -> None:
        """Nothing from elsewhere, no error, no horizontal scrolling, nothing that axe finds."""
        assert not [url for url in self.requests if not self._is_own(url)]
        assert len(self.errors) == len(self.expected_errors), self.errors
        for found, expected in zip(self.errors, self.expected_errors, strict=True):
            assert found.startswith(expected)
        width, visible = self.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert width <= visible
        found = Axe().run(self.page)
        assert not found.violations_count, found.generate_report()

    def _note(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)

    def _dismiss(self, dialog: Dialog) -> None:
        self.errors.append(dialog.message)
        dialog.dismiss()

    def _is_own(self, url: str) -> bool:
        """Tells whether a request goes to the page's own server, or reads the page's own file."""
        return url.startswith("data:") or (
            url == self.address
            if self.address.startswith("file:")
            else urlsplit(url)[:2] == urlsplit(self.address)[:2]
        )


def style(element: Locator, name: str) -> str:
    """Returns a computed property, such as `direction`."""
    return element.evaluate("(each, name) => getComputedStyle(each)[name]", name)
