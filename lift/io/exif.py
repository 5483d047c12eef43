"""Interpret the EXIF tags of a picture: orientation and focal length."""

import math
from typing import Any

from PIL import ExifTags, Image

TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Operation that turns a stored picture upright, by EXIF orientation."""

_FIELD_OF_VIEW_RANGE = (5.0, 150.0)
"""Degrees along the longer side that a focal length may give. Others are rejected."""

_INCHES = {2: 1.0, 3: 1 / 2.54, 4: 1 / 25.4, 5: 1 / 25400}
"""Length in inches of EXIF's resolution units."""


def exif_focal(tags: dict[int, Any], width: int, height: int, notes: list[str]) -> float | None:
    """Compute the focal length that EXIF states.

    Args:
        tags: EXIF tags of the picture.
        width: The stored picture's width in pixels.
        height: The stored picture's height in pixels.
        notes: Receives a sentence about the focal length, or about why it is rejected.

    Returns:
        Focal length in pixels of the stored picture. None if it is missing or implausible.
    """
    values = {}
    for tag in ExifTags.Base:
        try:
            values[tag] = float(tags[tag])
        except (KeyError, TypeError, ValueError, ZeroDivisionError):
            continue  # missing, text, or a fraction over zero
    original = [
        values.get(tag, 0.0)
        for tag in (ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight)
    ]
    longer = max(width, height)
    shorter = min(width, height)
    if min(original) > 0 and not math.isclose(
        max(original) / min(original), longer / shorter, rel_tol=0.02
    ):
        notes.append(
            "the focal length in EXIF is not used: the picture was cropped after it had been taken"
        )
        return None
    equivalent = values.get(ExifTags.Base.FocalLengthIn35mmFilm, 0.0)
    length = values.get(ExifTags.Base.FocalLength, 0.0)
    density = values.get(ExifTags.Base.FocalPlaneXResolution, 0.0)
    unit = _INCHES.get(int(values.get(ExifTags.Base.FocalPlaneResolutionUnit, 2)), 0.0)
    if equivalent > 0:
        # The 35 mm equivalent has the same angle along the diagonal (CIPA DCG-001).
        focal = equivalent / math.hypot(36, 24) * math.hypot(width, height)
    elif length > 0 and density > 0 and unit > 0:
        scale = longer / max(original) if max(original) > 0 else 1.0
        focal = length / 25.4 * density / unit * scale
    else:
        return None
    angle = math.degrees(2 * math.atan(longer / 2 / focal)) if math.isfinite(focal) else 0.0
    if not _FIELD_OF_VIEW_RANGE[0] <= angle <= _FIELD_OF_VIEW_RANGE[1]:
        notes.append(
            "the focal length in EXIF is not used: it would give a field of view of "
            f"{angle:.3g} degrees"
        )
        return None
    notes.append(
        f"focal length from EXIF: {focal:.0f} pixels at {width} x {height}, a field of view of "
        f"{angle:.0f} degrees"
    )
    return focal
