"""The camera motions of films, as closed loops about the subject."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lift.outputs.view_region import Range, ViewRegion

AZIMUTH = 12.0
"""Degrees to either side of the usual motion."""

ELEVATION = 4.0
"""Degrees up and down of the usual motion."""

APPROACH = 0.3
"""Forward motion of the usual motion, as a fraction of the distance from the subject."""

RETREAT = 0.5
"""Backward motion of the dolly zoom, as a fraction of the distance from the subject."""

ZOOM = 1.5
"""Largest factor on the focal length of the zoom."""

SPIRAL_TURNS = 2
"""Turns of the spiral in one loop."""

Phase = Float[Tensor, "view"]
"""Position in the loop in radians, 0 at the start and 2 pi at the end."""


@dataclass(frozen=True)
class Motion:
    """Positions of a camera about the subject along a loop."""

    azimuth: Float[Tensor, "view"]
    """Degrees to the right."""
    elevation: Float[Tensor, "view"]
    """Degrees up."""
    distance: Float[Tensor, "view"]
    """Distance from the subject as a fraction of the input camera's."""
    focal: Float[Tensor, "view"]
    """Factor on the focal length."""


@dataclass(frozen=True)
class Amplitude:
    """How far a motion goes from the input view."""

    azimuth: Range
    """Degrees, negative to the left."""
    elevation: Range
    """Degrees, negative down."""
    approach: float
    """Forward motion as a fraction of the distance from the subject."""

    @classmethod
    def within(cls, region: ViewRegion, factor: float) -> "Amplitude":
        """Limit the amplitude to the region in which views stay covered.

        Args:
            region: The region.
            factor: Factor on the usual motion, above 0.
        """
        return cls(
            _clamp(region.azimuth, factor * AZIMUTH),
            _clamp(region.elevation, factor * ELEVATION),
            min(factor * APPROACH, 1 - region.distance[0] / region.input_distance),
        )

    @classmethod
    def full(cls, factor: float) -> "Amplitude":
        """Return the amplitude that nothing limits.

        Args:
            factor: Factor on the usual motion, above 0.
        """
        azimuth, elevation = factor * AZIMUTH, factor * ELEVATION
        return cls((-azimuth, azimuth), (-elevation, elevation), factor * APPROACH)


def move(preset: str, count: int, amplitude: Amplitude, factor: float) -> Motion:
    """Compute a loop. Its end leads to its start as each view leads to the next.

    Args:
        preset: Name of the motion. It is none that follows stored cameras.
        count: Number of views.
        amplitude: How far the motion goes at most.
        factor: Factor on the motion, in [0, 1].

    Returns:
        Positions at `count` even times.
    """
    phase = 2 * math.pi * torch.arange(count, dtype=torch.float64) / count
    zero = torch.zeros_like(phase)
    # Rises from 0 to 1 and falls back, slow at both ends.
    rise = (1 - phase.cos()) / 2
    loops: dict[str, Callable[[], Motion]] = {
        "orbit": lambda: _circle(phase, zero + factor, zero, amplitude),
        "swing": lambda: Motion(_swing(phase, amplitude.azimuth, factor), zero, zero + 1, zero + 1),
        "spiral": lambda: _circle(
            SPIRAL_TURNS * phase, factor * rise, factor * amplitude.approach * rise, amplitude
        ),
        "dolly": lambda: Motion(zero, zero, 1 - factor * amplitude.approach * rise, zero + 1),
        "zoom": lambda: Motion(zero, zero, zero + 1, 1 + factor * (ZOOM - 1) * rise),
        "dolly-zoom": lambda: Motion(
            zero, zero, 1 + factor * RETREAT * rise, 1 + factor * RETREAT * rise
        ),
    }
    return loops[preset]()


def describe_extent(preset: str, amplitude: Amplitude, factor: float) -> str:
    """Say how far a motion goes, such as "9 degrees to the left and 12 to the right".

    Args:
        preset: Name of the motion.
        amplitude: How far the motion goes at most.
        factor: Factor on the motion, in [0, 1].
    """
    if preset == "dolly":
        return f"{100 * factor * amplitude.approach:.0f} % of the way to the subject"
    if preset == "zoom":
        return f"a zoom of {1 + factor * (ZOOM - 1):.2f}"
    if preset == "dolly-zoom":
        return f"{100 * factor * RETREAT:.0f} % farther from the subject"
    left, right = (factor * abs(value) for value in amplitude.azimuth)
    return f"{left:.0f} degrees to the left and {right:.0f} to the right"


def extent(preset: str, amplitude: Amplitude, factor: float) -> float:
    """Measure a motion, to compare two amplitudes of one preset.

    Args:
        preset: Name of the motion.
        amplitude: How far the motion goes at most.
        factor: Factor on the motion, in [0, 1].

    Returns:
        The extent in units that depend on the preset.
    """
    if preset == "dolly":
        return factor * amplitude.approach
    if preset in ("zoom", "dolly-zoom"):
        return factor
    return factor * (amplitude.azimuth[1] - amplitude.azimuth[0])


def _circle(
    angle: Phase,
    radius: Float[Tensor, "view"],
    approach: Float[Tensor, "view"],
    amplitude: Amplitude,
) -> Motion:
    """Circle about the middle of the amplitude, clockwise as seen from behind the camera."""
    azimuth = _at(amplitude.azimuth, angle.sin(), radius)
    elevation = _at(amplitude.elevation, angle.cos(), radius)
    return Motion(azimuth, elevation, 1 - approach, torch.ones_like(angle))


def _swing(phase: Phase, limits: Range, factor: float) -> Float[Tensor, "view"]:
    """Oscillate between limits. The loop starts at 0, which lies between them."""
    low, high = limits
    half = max((high - low) / 2, 1e-9)
    start = math.asin(max(-1.0, min(1.0, -(high + low) / 2 / half)))
    return factor * ((high + low) / 2 + half * torch.sin(phase + start))


def _at(
    limits: Range, position: Float[Tensor, "view"], radius: Float[Tensor, "view"]
) -> Float[Tensor, "view"]:
    """Scale a position in [-1, 1] to limits, and by a radius in [0, 1] about 0."""
    low, high = limits
    return radius * ((high + low) / 2 + (high - low) / 2 * position)


def _clamp(limits: Range, reach: float) -> Range:
    """Cut limits to a reach to either side."""
    return max(limits[0], -reach), min(limits[1], reach)
