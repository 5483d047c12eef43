"""Pieces of HTML of the viewer's panel."""

import base64
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from lift.outputs.viewer import html

EVIL = "\"'><script>alert(1)</script>"


class Tags(HTMLParser):
    """Collects tags and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize(
    "text",
    [
        html.gallery(["id"], ["data:,"], [EVIL]),
        html.comparison("data:,", "data:,", (EVIL, EVIL)),
        html.picture("data:,", EVIL),
        html.command(EVIL),
        html.note(EVIL),
    ],
)
def test_texts_are_escaped(text):
    parsed = Tags(text)
    assert "script" not in parsed.tags and EVIL in parsed.text


def test_a_picture_survives_as_a_url():
    image = np.full((20, 30, 3), (200, 100, 50), dtype=np.uint8)
    kind, _, data = html.jpeg_url(image, 15).partition(",")
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert kind == "data:image/jpeg;base64" and decoded is not None
    assert decoded.shape == (10, 15, 3)
    assert np.abs(decoded[..., ::-1].astype(int) - image[0, 0]).max() < 6
