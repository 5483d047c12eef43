"""Compute the size at which a picture is processed, and its focal length if none is known."""

import math

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


def working_size(
    width: int, height: int, size: int, notes: list[str]
) -> tuple[int, int, tuple[float, float, float, float]]:
    """Compute the size at which a picture is processed, and the crop that fills it.

    Args:
        width: The picture's width in pixels.
        height: The picture's height in pixels.
        size: Largest length of the longer side of the result in pixels.
        notes: Receives a sentence if the picture is cropped or enlarged.

    Returns:
        Width and height of the result, multiples of MULTIPLE, and the crop (left, top, right,
        bottom) in pixels of the picture. It is centred and has the same aspect, so that pixels
        stay square.
    """
    visible = [min(width, MAX_ASPECT * height), min(height, MAX_ASPECT * width)]
    if visible != [width, height]:
        notes.append(
            f"wider than {MAX_ASPECT:g}:1, so {visible[0]:.0f} x {visible[1]:.0f} pixels in the "
            f"middle of {width} x {height} were kept"
        )
    longer = max(visible)
    shorter = min(visible)
    limit = max(longer, MIN_LONGER_SIDE) if longer < MIN_LONGER_SIDE else longer
    long = max(int(min(size, limit)) // MULTIPLE * MULTIPLE, MULTIPLE)
    short = round_to_multiple(long * shorter / longer, MULTIPLE)
    if longer >= MIN_LONGER_SIDE:
        short = max(min(short, int(shorter) // MULTIPLE * MULTIPLE), MULTIPLE)
    elif long > longer:
        notes.append(f"only {width} x {height} pixels, enlarged")
    target = (long, short) if visible[0] >= visible[1] else (short, long)
    zoom = max(target[0] / visible[0], target[1] / visible[1])
    half = (target[0] / zoom / 2, target[1] / zoom / 2)
    left = max(width / 2 - half[0], 0.0)
    top = max(height / 2 - half[1], 0.0)
    return *target, (left, top, width - left, height - top)


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
