"""Text of the report has enough contrast, in light and dark."""

import re

import pytest

from lift.outputs.report.page import TEMPLATES

PAIRS = [
    ("ink", "paper"),
    ("ink", "card"),
    ("soft", "paper"),
    ("soft", "card"),
    ("soft", "band"),
    ("accent", "paper"),
    *[(level, f"{level}-tint") for level in ("good", "fair", "poor")],
    *[("ink", f"{level}-tint") for level in ("good", "fair", "poor")],
    *[(level, "card") for level in ("good", "fair", "poor")],
]
"""Names of colours: text and what is behind it."""

MIN_CONTRAST = 4.5
"""Level AA of WCAG 2.2 for text of normal size."""


def palettes() -> dict[str, dict[str, str]]:
    """The colours by name, for each scheme."""
    style = (TEMPLATES / "page.css").read_text(encoding="utf-8")
    blocks = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    light, dark = (dict(re.findall(r"--([\w-]+): (#\w{6})", block)) for block in blocks[:2])
    return {"light": light, "dark": light | dark}


def luminance(color: str) -> float:
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("text", "behind"), PAIRS)
def test_text_stands_out(scheme, text, behind):
    colors = palettes()[scheme]
    low, high = sorted((luminance(colors[text]), luminance(colors[behind])))
    assert (high + 0.05) / (low + 0.05) >= MIN_CONTRAST
