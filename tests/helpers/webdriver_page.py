"""Pages of browsers that WebDriver drives."""

import math
from pathlib import Path
from typing import Any

from torch import Tensor

from tests.helpers.page import MIDDLE, Page, Point, decode_picture
from tests.helpers.webdriver import WebDriver

RECORDER = """<script>
window.recordedErrors = [];
for (const level of ["error", "warn"]) {
  const write = console[level].bind(console);
  console[level] = (...words) => {
    recordedErrors.push(`${level}: ${words.join(" ")}`);
    write(...words);
  };
}
addEventListener("error", (event) => recordedErrors.push(`exception: ${event.message}`));
addEventListener("unhandledrejection", (event) =>
  recordedErrors.push(`exception: ${event.reason}`));
document.addEventListener("securitypolicyviolation", (event) =>
  recordedErrors.push(`blocked: ${event.violatedDirective} ${event.blockedURI}`));
</script>"""
"""Records errors of a page, because WebDriver has no command that reads the console."""

REQUESTS = "performance.getEntriesByType('resource').map((entry) => entry.name)"
"""Addresses of what a page requested, besides itself."""

KEYS = {"Enter": "\ue007", "Escape": "\ue00c", "ArrowUp": "\ue013", "ArrowRight": "\ue014"}
"""Characters by which WebDriver names keys that write none."""


class WebDriverPage(Page):
    """An open page of a browser that WebDriver drives.

    Args:
        driver: The browser's session.
        address: URL of the page.
    """

    def __init__(self, driver: WebDriver, address: str) -> None:
        self._driver = driver
        self.address = address
        driver.send("Navigate", url=address)

    @property
    def errors(self) -> list[str]:
        """Errors and warnings on the console, and exceptions that nothing caught."""
        return self.evaluate("recordedErrors")

    @property
    def requests(self) -> list[str]:
        """Addresses of all requests besides `blob:` and `data:`, the page itself first."""
        others = self.evaluate(REQUESTS)
        return [self.address, *(url for url in others if not url.startswith(("blob:", "data:")))]

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript."""
        return self._driver.send("ExecuteScript", script=f"return {expression}", args=[])

    def screenshot(self, selector: str | None = None) -> Tensor:
        """Take a picture of the page, or of an element."""
        # Pictures that WebKitGTK takes of an element can lack a part of it.
        window = decode_picture(self._driver.screenshot())
        if selector is None:
            return window
        left, top, width, height = map(round, self.box(selector))
        return window[top : top + height, left : left + width]

    def click(self, selector: str) -> None:
        """Click the middle of an element."""
        self._drag_once(*self.point(selector), 0, 0)

    def press(self, key: str) -> None:
        """Press a key: a character or the name of the key."""
        value = KEYS.get(key, key)
        steps = [{"type": kind, "value": value} for kind in ("keyDown", "keyUp")]
        self._driver.act("key", steps)

    def drag(self, selector: str, right: int, down: int, start: Point = MIDDLE) -> None:
        """Drag with the mouse, in pixels.

        WebDriver keeps the mouse in the window, so a long drag becomes several short ones.
        """
        x, y = self.point(selector, start)
        _, _, width, height = self.box(selector)
        count = math.ceil(max(1, 2.1 * abs(right) / width, 2.1 * abs(down) / height))
        for _ in range(count):
            self._drag_once(x, y, right / count, down / count)

    def turn_wheel(self, selector: str, down: int) -> None:
        """Turn the wheel of the mouse above the middle of an element, in pixels."""
        x, y = map(round, self.point(selector))
        scroll = {"type": "scroll", "x": x, "y": y, "deltaX": 0, "deltaY": down}
        self._driver.act("wheel", [scroll])

    def close(self) -> None:
        """Leave the page."""
        self._driver.send("Navigate", url="about:blank")

    def _drag_once(self, x: float, y: float, right: float, down: float) -> None:
        ends = [(round(x + part * right), round(y + part * down)) for part in (0, 0.5, 1)]
        start, *moves = [{"type": "pointerMove", "x": x, "y": y, "duration": 0} for x, y in ends]
        press, release = ({"type": kind, "button": 0} for kind in ("pointerDown", "pointerUp"))
        self._driver.act("pointer", [start, press, *moves, release])


class WebDriverBrowser:
    """A running browser that WebDriver drives. It shows one page at a time.

    Args:
        driver: The browser's session.
        folder: Folder for copies of pages.
    """

    def __init__(self, driver: WebDriver, folder: Path) -> None:
        self._driver = driver
        self._folder = folder
        self._size = (0, 0)

    def open(self, address: Path, width: int = 800, height: int = 600) -> WebDriverPage:
        """Open a copy of a file that records its errors, and wait until it is loaded.

        Args:
            address: The file.
            width: Width of the window in pixels.
            height: Height of the window in pixels, with the bars of the browser.

        Returns:
            The page.
        """
        if self._size != (width, height):  # Firefox takes 5 s where no window manager answers
            self._driver.send("SetWindowRect", width=width, height=height)
            self._size = (width, height)
        charset = '<meta charset="utf-8">'
        text = address.read_text(encoding="utf-8")
        assert charset in text, "the page names its encoding"
        copy = self._folder / address.name
        copy.write_text(text.replace(charset, charset + RECORDER, 1), encoding="utf-8")
        return WebDriverPage(self._driver, copy.resolve().as_uri())
