"""Settings of films, for `lift run` and `lift render`. Imports no torch."""

import re
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval

from lift.registry.ranges import OneOf

FILM_PRESETS = ("fly-through", "orbit", "swing", "spiral", "dolly", "zoom", "dolly-zoom")
"""Names of the camera motions of films."""

FILM_KINDS = ("color", "depth", "normal")
"""What the pictures of a film show."""

MIN_SECONDS = 0.01
MAX_SECONDS = 600
"""Smallest and largest duration of a film."""

MIN_SIZE = 16
MAX_SIZE = 4320
"""Smallest and largest shorter side of a film in pixels."""

MAX_FPS = 1000
"""Largest number of frames per second."""

ASPECTS = ("input", "16:9", "1:1", "9:16")
"""Common aspects, for messages. Any W:H is possible."""

_ASPECT_LIMIT = 5.0
"""Largest ratio of the longer to the shorter side."""

_ASPECT = re.compile(r"(\d{1,5}(?:\.\d{1,5})?):(\d{1,5}(?:\.\d{1,5})?)")


@dataclass
class Film:
    """The film of the scene, video.mp4. `lift render` makes others of a finished run."""

    preset: Annotated[str, OneOf(FILM_PRESETS)] = "fly-through"
    """Camera motion: fly-through, orbit, swing, spiral, dolly, zoom or dolly-zoom."""
    aspect: str = "input"
    """Width to height, such as 16:9, 1:1 or 9:16, or input for that of the frames."""
    seconds: Annotated[float, Interval(ge=MIN_SECONDS, le=MAX_SECONDS)] = 3.0
    """Duration in seconds, also that of the fly-through in the viewer.

    The pages of the scene play their fly-through in 8 seconds.
    """
    fps: Annotated[int, Interval(ge=1, le=MAX_FPS)] = 24
    """Frames per second."""
    size: Annotated[int, Interval(ge=MIN_SIZE, le=MAX_SIZE)] | None = None
    """Shorter side in pixels, as in 1080p. Null: chosen by the size of the frames."""
    kind: Annotated[str, OneOf(FILM_KINDS)] = "color"
    """What pixels show: color, depth or normal."""


def parse_aspect(text: str, name: str = "aspect") -> float | None:
    """Read an aspect.

    Args:
        text: W:H, or input.
        name: Name of the setting, for the message.

    Returns:
        Width divided by height. None for input.

    Raises:
        ValueError: The text is no aspect, or one of a strip.
    """
    if text == "input":
        return None
    match = _ASPECT.fullmatch(str(text))
    sides = [float(side) for side in match.groups()] if match else [0.0]
    if min(sides) <= 0 or max(sides) > _ASPECT_LIMIT * min(sides):
        raise ValueError(
            f"{name} is {text!r}; choose {', '.join(ASPECTS)} or another W:H, up to "
            f"{_ASPECT_LIMIT:g}:1"
        )
    return sides[0] / sides[1]
