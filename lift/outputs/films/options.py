"""What a user chooses of a film. Imports no torch."""

from collections.abc import Sequence
from dataclasses import dataclass

from lift.config.film_schema import (
    FILM_KINDS,
    FILM_PRESETS,
    MAX_FPS,
    MAX_SECONDS,
    MAX_SIZE,
    MIN_SECONDS,
    MIN_SIZE,
    parse_aspect,
)

MAX_MOTION = 3
"""Largest factor on the usual motion."""


@dataclass(frozen=True)
class FilmOptions:
    """What a film shows, and how large, long and fast it is."""

    preset: str = "fly-through"
    """Name of the camera motion, one of `FILM_PRESETS`."""
    aspect: str = "input"
    """Width to height, such as 16:9 or 9:16, or input for that of the frames."""
    seconds: float | int = 6.0
    """Duration."""
    fps: int = 30
    """Frames per second."""
    size: int | None = None
    """Shorter side in pixels, as in 1080p. None: that of the frames, cut to the aspect."""
    kind: str = "color"
    """What pixels show: color, depth or normal."""
    motion: float | int = 1.0
    """Factor on the usual motion, in [0.01, 3]. Motions stay where views are covered."""

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            ValueError: A value is out of range, or is none of the choices.
        """
        _check_choice("preset", self.preset, FILM_PRESETS)
        _check_choice("kind", self.kind, FILM_KINDS)
        parse_aspect(self.aspect)
        _check_range("seconds", self.seconds, MIN_SECONDS, MAX_SECONDS)
        _check_range("fps", self.fps, 1, MAX_FPS)
        _check_range("motion", self.motion, 0.01, MAX_MOTION)
        if self.size is not None:
            _check_range("size", self.size, MIN_SIZE, MAX_SIZE)

    @property
    def count(self) -> int:
        """Number of frames, at least 2."""
        return max(2, round(self.seconds * self.fps))


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; choose one of {', '.join(choices)}")


def _check_range(name: str, value: float | int, low: float | int, high: float | int) -> None:
    if not low <= value <= high:  # also false for NaN
        raise ValueError(f"{name} is {value}; choose from {low:g} to {high:g}")
