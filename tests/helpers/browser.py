"""A headless Chromium for tests of pages: `pytest_plugins` of the conftest loads its fixtures.

Tests that use the fixtures skip where Chromium or playwright is absent. `.ci/run` installs them.
"""

import os
import shutil
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
"""Names of the browser's program."""

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
"""Arguments of the browser: WebGL in software, and no traffic of its own."""

TIMEOUT = 120
"""Seconds that a page may take to load or to fulfil a condition on a busy machine."""

PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "has_touch": True,
    "is_mobile": True,
}
"""Options of `BrowserPage` for a phone."""


class BrowserPage:
    """An open page, with what it wrote to the console and what it requested.

    Args:
        context: Playwright's context with one page, which is closed with this object.
        page: The page.
    """

    def __init__(self, context: Any, page: Any) -> None:
        self._context = context
        self.page = page
        """Playwright's page."""
        self.errors: list[str] = []
        """Errors and warnings on the console, and exceptions that nothing caught."""
        self.requests: list[str] = []
        """Addresses of all requests besides `blob:` and `data:`, the page itself first."""
        page.on("console", self._record_message)
        page.on("pageerror", lambda error: self.errors.append(f"exception: {error}"))
        page.on("request", self._record_request)

    def screenshot(self, selector: str | None = None) -> Tensor:
        """Take a picture of the page, or of an element.

        Args:
            selector: CSS selector of the element. None: what the window shows.

        Returns:
            Colours in [0, 1] [height width 3].
        """
        source = self.page.locator(selector) if selector else self.page
        with Image.open(BytesIO(source.screenshot())) as picture:
            return torch.from_numpy(np.array(picture.convert("RGB"))) / 255

    def wait_until(self, condition: str, seconds: float = TIMEOUT) -> None:
        """Wait until a condition holds. Unlike Playwright's, it works on pages without `eval`.

        Args:
            condition: Expression of JavaScript.
            seconds: How long to wait.

        Raises:
            TimeoutError: It does not hold in time.
        """
        end = time.monotonic() + seconds
        while not self.page.evaluate(f"Boolean({condition})"):
            if time.monotonic() > end:
                raise TimeoutError(f"{condition} does not hold in {seconds} s: {self.errors}")
            self.page.wait_for_timeout(100)

    def close(self) -> None:
        """Close the page."""
        self._context.close()

    def _record_message(self, message: Any) -> None:
        # Software WebGL tells that reading pixels is slow.
        if message.type in ("error", "warning") and "GPU stall" not in message.text:
            self.errors.append(f"{message.type}: {message.text}")

    def _record_request(self, request: Any) -> None:
        if not request.url.startswith(("blob:", "data:")):
            self.requests.append(request.url)


class Browser:
    """A running browser.

    Args:
        browser: Playwright's browser.
    """

    def __init__(self, browser: Any) -> None:
        self._browser = browser
        self._pages: list[BrowserPage] = []

    def open(
        self, address: str | Path, width: int = 800, height: int = 600, **options: Any
    ) -> BrowserPage:
        """Open a page in a profile of its own and wait until it is loaded.

        Args:
            address: URL, or a file.
            width: Width of the window in pixels.
            height: Height of the window in pixels.
            **options: Other options of Playwright's `new_context`, such as `PHONE`.

        Returns:
            The page. The end of the test closes it.
        """
        options = {"viewport": {"width": width, "height": height}, **options}
        context = self._browser.new_context(**options)
        context.set_default_timeout(1000 * TIMEOUT)
        page = BrowserPage(context, context.new_page())
        self._pages.append(page)
        page.page.goto(address.resolve().as_uri() if isinstance(address, Path) else address)
        return page

    def close_pages(self) -> None:
        """Close all pages."""
        for page in self._pages:
            page.close()
        self._pages.clear()


@pytest.fixture(scope="session")
def browser_process() -> Iterator[Any]:
    """Playwright's browser, started once."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    program = find_chromium()
    if program is None:
        pytest.skip("Chromium is not installed: apt-get install chromium, or set LIFT_CHROMIUM")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def browser(browser_process: Any) -> Iterator[Browser]:
    """A headless Chromium with WebGL, whose pages are closed after the test."""
    browser = Browser(browser_process)
    yield browser
    browser.close_pages()


def find_chromium() -> str | None:
    """Return the path of Chromium: LIFT_CHROMIUM, or what is on the PATH. None: there is none."""
    if path := os.environ.get("LIFT_CHROMIUM"):
        return path
    return next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
