"""Compute the size at which a picture is processed, and its focal length if none is known."""

import math
from collections.abc import Callable

ShapeChoice = Callable[[int, int], tuple[tuple[int, int] | None, str]]
"""Chooses the shape of a picture, for a video generator with a shape of its own.

It gets width and height in pixels. It returns width and height whose ratio the picture is cropped
to, or None, and a sentence for the user, which may be empty.
"""

PICTURE_SIZE = 512
"""Longer side in pixels of a single picture, if `preprocess.size` is null."""

FRAMES_SIZE = 384
"""Longer side in pixels of frames of a video or of several pictures, as `PICTURE_SIZE`."""

MIN_SIDE = 16
"""Smallest side in pixels of a picture that is accepted."""

MIN_LONGER_SIDE = 64
"""Length in pixels to which the longer side of a smaller picture is enlarged."""

MAX_ASPECT = 4.0
"""Largest ratio of the longer side to the shorter one. A wider picture is cropped."""

MULTIPLE = 8
"""Both sides of a loaded picture are multiples of it, because video networks work on blocks."""


def round_to_multiple(length: float, multiple: int) -> int:
    """Round a length to the nearest multiple, at least the first one.

    Args:
        length: A length in pixels.
        multiple: What the result is a multiple of, in pixels.

    Returns:
        The rounded length.
    """
    return max(1, round(length / multiple)) * multiple


def cropped_size(
    width: int | float, height: int | float, shape: tuple[int, int]
) -> tuple[float, float]:
    """Return the largest size of another aspect ratio within a picture.

    Args:
        width: The picture's width in pixels.
        height: The picture's height in pixels.
        shape: Width and height, of which only the ratio counts.

    Returns:
        Width and height in pixels. One of them is the picture's.
    """
    aspect = shape[0] / shape[1]
    return float(min(width, height * aspect)), float(min(height, width / aspect))


def working_size(
    width: int,
    height: int,
    size: int,
    notes: list[str],
    choose_shape: ShapeChoice | None = None,
) -> tuple[int, int, tuple[float, float, float, float]]:
    """Compute the size at which a picture is processed, and the crop that fills it.

    Args:
        width: The picture's width in pixels.
        height: The picture's height in pixels.
        size: Largest length of the longer side of the result in pixels.
        notes: Receives a sentence if the picture is cropped or enlarged.
        choose_shape: Chooses another shape, for the size of the result. None: the picture's own.

    Returns:
        Width and height of the result, multiples of MULTIPLE, and the crop (left, top, right,
        bottom) in pixels of the picture. It is centred and has the same aspect, so that pixels
        stay square.
    """
    visible = (float(min(width, MAX_ASPECT * height)), float(min(height, MAX_ASPECT * width)))
    if visible != (width, height):
        notes.append(
            f"wider than {MAX_ASPECT:g}:1, so {visible[0]:.0f} x {visible[1]:.0f} pixels in the "
            f"middle of {width} x {height} were kept"
        )
    target = _rounded_size(*visible, size)
    if choose_shape is not None:
        shape, note = choose_shape(*target)
        if shape is not None:
            visible = cropped_size(*visible, shape)
            target = _rounded_size(*visible, size)
            note = (
                f"the middle of the picture, {visible[0]:.0f} x {visible[1]:.0f} of "
                f"{width} x {height} pixels, is used: {note}"
            )
        notes += [note] if note else []
    if max(visible) < MIN_LONGER_SIDE and max(target) > max(visible):
        notes.append(f"only {width} x {height} pixels, enlarged")
    zoom = max(target[0] / visible[0], target[1] / visible[1])
    half = (target[0] / zoom / 2, target[1] / zoom / 2)
    left = max(width / 2 - half[0], 0.0)
    top = max(height / 2 - half[1], 0.0)
    return *target, (left, top, width - left, height - top)


def _rounded_size(width: float, height: float, size: int) -> tuple[int, int]:
    """Return a size of an aspect ratio whose sides are multiples of MULTIPLE."""
    longer = max(width, height)
    shorter = min(width, height)
    limit = max(longer, MIN_LONGER_SIDE)
    long = max(int(min(size, limit)) // MULTIPLE * MULTIPLE, MULTIPLE)
    short = round_to_multiple(long * shorter / longer, MULTIPLE)
    if longer >= MIN_LONGER_SIDE:
        short = max(min(short, int(shorter) // MULTIPLE * MULTIPLE), MULTIPLE)
    return (long, short) if width >= height else (short, long)


def assumed_focal(width: int, height: int, field_of_view: float, notes: list[str]) -> float:
    """Compute the focal length of a picture that does not state one.

    Args:
        width: The picture's width in pixels.
        height: The picture's height in pixels.
        field_of_view: Degrees along the longer side, after a panorama is cropped.
        notes: Receives a sentence about the assumption.

    Returns:
        The focal length in pixels.
    """
    longer = min(max(width, height), MAX_ASPECT * min(width, height))
    notes.append(
        f"focal length from an assumed field of view of {field_of_view:g} degrees along the "
        "longer side"
    )
    return longer / 2 / math.tan(math.radians(field_of_view) / 2)
