"""Browsers for tests of pages: `pytest_plugins` of the conftest loads the fixtures.

`browser` is a headless Chromium that Playwright drives. `each_browser` is Chromium, Firefox and
WebKit in turn. Tests skip where the browser or playwright is absent. `.ci/run` installs them.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from tests.helpers.page import MIDDLE, TIMEOUT, Page, Point, decode_picture
from tests.helpers.webdriver import start_firefox, start_webkit
from tests.helpers.webdriver_page import WebDriverBrowser

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

PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "has_touch": True,
    "is_mobile": True,
}
"""Options of `BrowserPage` for a phone."""


class BrowserPage(Page):
    """An open page of a browser that Playwright drives.

    Args:
        context: Playwright's context with one page, which is closed with this object.
        page: The page.
    """

    def __init__(self, context: Any, page: Any) -> None:
        self._context = context
        self.page = page
        """Playwright's page."""
        self.errors = []
        self.requests = []
        page.on("console", self._record_message)
        page.on("pageerror", lambda error: self.errors.append(f"exception: {error}"))
        page.on("request", self._record_request)

    def open(self, address: str) -> None:
        """Open a URL and wait until it is loaded."""
        self.address = address
        self.page.goto(address)

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript."""
        return self.page.evaluate(expression)

    def screenshot(self, selector: str | None = None) -> Tensor:
        """Take a picture of the page, or of an element."""
        source = self.page.locator(selector) if selector else self.page
        return decode_picture(source.screenshot())

    def click(self, selector: str) -> None:
        """Click the middle of an element."""
        self.page.click(selector)

    def press(self, key: str) -> None:
        """Press a key: a character or the name of the key."""
        self.page.keyboard.press(key)

    def drag(self, selector: str, right: int, down: int, start: Point = MIDDLE) -> None:
        """Drag with the mouse, in pixels."""
        x, y = self.point(selector, start)
        mouse = self.page.mouse
        mouse.move(x, y)
        mouse.down()
        mouse.move(x + right, y + down, steps=3)
        mouse.up()

    def turn_wheel(self, selector: str, down: int) -> None:
        """Turn the wheel of the mouse above the middle of an element, in pixels."""
        self.page.mouse.move(*self.point(selector))
        self.page.mouse.wheel(0, down)

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
        page.open(address.resolve().as_uri() if isinstance(address, Path) else address)
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


@pytest.fixture(scope="module", params=["chromium", "firefox", "webkit"])
def each_browser(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Browser | WebDriverBrowser]:
    """Chromium, Firefox and WebKit in turn, with WebGL."""
    if request.param == "chromium":
        browser = Browser(request.getfixturevalue("browser_process"))
        yield browser
        browser.close_pages()
        return
    start = start_firefox if request.param == "firefox" else start_webkit
    folder = tmp_path_factory.mktemp(request.param)
    with start(folder) as driver:
        yield WebDriverBrowser(driver, folder)


def find_chromium() -> str | None:
    """Return the path of Chromium: LIFT_CHROMIUM, or what is on the PATH. None: there is none."""
    if path := os.environ.get("LIFT_CHROMIUM"):
        return path
    return next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
