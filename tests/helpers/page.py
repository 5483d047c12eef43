"""What tests do with an open page of any browser."""

import time
from abc import ABC, abstractmethod
from io import BytesIO
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

TIMEOUT = 120
"""Seconds that a page may take to load or to fulfil a condition on a busy machine."""

Point = tuple[float, float]
"""Right and down."""

MIDDLE = (0.5, 0.5)
"""The middle of an element, in its widths and heights."""


class Page(ABC):
    """An open page of any browser."""

    address: str
    """URL of the page."""

    errors: list[str]
    """Errors and warnings on the console, and exceptions that nothing caught."""

    requests: list[str]
    """Addresses of all requests besides `blob:` and `data:`, the page itself first."""

    @abstractmethod
    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript."""

    @abstractmethod
    def screenshot(self, selector: str | None = None) -> Tensor:
        """Take a picture of the page, or of an element.

        Args:
            selector: CSS selector of the element. None: what the window shows.

        Returns:
            Colours in [0, 1] [height width 3].
        """

    @abstractmethod
    def click(self, selector: str) -> None:
        """Click the middle of an element."""

    @abstractmethod
    def press(self, key: str) -> None:
        """Press a key: a character or the name of the key."""

    @abstractmethod
    def drag(self, selector: str, right: int, down: int, start: Point = MIDDLE) -> None:
        """Drag with the mouse, in pixels.

        Args:
            selector: CSS selector of an element.
            right: Pixels to the right.
            down: Pixels downwards.
            start: Where the drag starts, in widths and heights of the element.
        """

    @abstractmethod
    def turn_wheel(self, selector: str, down: int) -> None:
        """Turn the wheel of the mouse above the middle of an element, in pixels."""

    @abstractmethod
    def close(self) -> None:
        """Close the page."""

    def scroll_to(self, selector: str) -> None:
        """Scroll until an element is in the middle of the window."""
        options = "{ block: 'center', behavior: 'instant' }"
        self.evaluate(f"document.querySelector('{selector}').scrollIntoView({options})")

    def point(self, selector: str, position: Point = MIDDLE) -> Point:
        """Return a point of an element in pixels of the window.

        Args:
            selector: CSS selector of the element.
            position: Where the point is, in widths and heights of the element.
        """
        x, y, width, height = self.box(selector)
        return x + position[0] * width, y + position[1] * height

    def box(self, selector: str) -> tuple[float, float, float, float]:
        """Return left, top, width and height of an element in pixels of the window."""
        box = self.evaluate(
            f"document.querySelector('{selector}').getBoundingClientRect().toJSON()"
        )
        return box["x"], box["y"], box["width"], box["height"]

    def wait_until(self, condition: str, seconds: float = TIMEOUT) -> None:
        """Wait until a condition holds. Unlike Playwright's, it works on pages without `eval`.

        Args:
            condition: Expression of JavaScript.
            seconds: How long to wait.

        Raises:
            TimeoutError: It does not hold in time.
        """
        end = time.monotonic() + seconds
        while not self.evaluate(f"Boolean({condition})"):
            if time.monotonic() > end:
                raise TimeoutError(f"{condition} does not hold in {seconds} s: {self.errors}")
            time.sleep(0.1)


def decode_picture(data: bytes) -> Tensor:
    """Return the colours of a picture file in [0, 1] [height width 3]."""
    with Image.open(BytesIO(data)) as picture:
        return torch.from_numpy(np.array(picture.convert("RGB"))) / 255
