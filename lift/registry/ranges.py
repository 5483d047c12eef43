"""Ranges of settings, for the annotations of constructors and of the fields of the schema.

A setting declares its range where it is declared itself: `angle: Degrees = 8.0`, or
`cells: Annotated[int, Interval(ge=2, le=64)] = 10`. The vocabulary is that of `annotated_types`:
`Interval`, `Ge`, `Gt`, `Le`, `Lt`, `Len`. `lift.registry.values` checks and prints ranges. Imports
no torch.
"""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Interval, Le, Len, Lt

__all__ = [
    "Annotated",
    "AtLeastOne",
    "Count",
    "Degrees",
    "Factor",
    "FarDepth",
    "Fraction",
    "FractionBelowOne",
    "FrameCount",
    "FrameRate",
    "Ge",
    "GuidanceScale",
    "Gt",
    "InferenceSteps",
    "Interval",
    "Le",
    "LearningRate",
    "Len",
    "Lt",
    "NonNegative",
    "Number",
    "OneOf",
    "PixelSize",
    "PointCount",
    "Positive",
    "Seed",
    "SignedDistance",
    "Tolerance",
    "Weight",
]


@dataclass(frozen=True)
class OneOf:
    """Choices of a text, where omegaconf has no `Literal`: in the fields of the schema."""

    choices: tuple[str, ...]
    """Every text that the setting takes."""


Count = Annotated[int, Interval(ge=0, le=1_000_000)]
"""A number of things, or an index from 0."""
AtLeastOne = Annotated[int, Interval(ge=1, le=1_000_000)]
"""A number of things of which there is at least one."""
FrameCount = Annotated[int, Interval(ge=1, le=10_000)]
"""A number of frames."""
PointCount = Annotated[int, Interval(ge=1, le=10**9)]
"""A number of points of a cloud."""
PixelSize = Annotated[int, Interval(ge=1, le=16_384)]
"""A side of a picture in pixels."""
FrameRate = Annotated[int, Interval(ge=1, le=1000)]
"""Frames per second."""
Seed = Annotated[int, Interval(ge=0, le=2**31 - 1)]
"""A seed of random numbers, which all generators take."""
InferenceSteps = Annotated[int, Interval(ge=1, le=1000)]
"""A number of denoising steps."""

Positive = Annotated[float, Interval(ge=1e-6, le=1e6)]
"""A factor or a length that cannot be 0."""
NonNegative = Annotated[float, Interval(ge=0, le=1e6)]
"""A factor or a length."""
Weight = Annotated[float, Interval(ge=0, le=1e6)]
"""A weight of a term of a loss."""
LearningRate = Annotated[float, Interval(ge=0, le=100)]
"""A learning rate."""
Fraction = Annotated[float, Interval(ge=0, le=1)]
"""A fraction, 0 and 1 included."""
FractionBelowOne = Annotated[float, Interval(ge=0, lt=1)]
"""A fraction, without 1."""
Degrees = Annotated[float, Interval(ge=-360, le=360)]
"""An angle in degrees."""
SignedDistance = Annotated[float, Interval(ge=-1000, le=1000)]
"""A length in units of the typical depth, in either direction."""
Tolerance = Annotated[float, Interval(ge=1e-6, le=100)]
"""A relative difference of two depths."""
Number = Annotated[float, Interval(ge=-1e6, le=1e6)]
"""A number of either sign."""
Factor = Annotated[float, Interval(ge=0, le=100)]
"""A factor on something whose cost grows with it."""
FarDepth = Annotated[float, Interval(gt=1, le=1e6)]
"""Depth of the farthest pixel in units of the nearest."""
GuidanceScale = Annotated[float, Interval(ge=1, le=100)]
"""A scale of classifier-free guidance, where 1 turns it off."""
