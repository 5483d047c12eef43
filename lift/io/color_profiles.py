"""Convert the colours of pictures with embedded profiles to sRGB."""

import functools
import struct
from io import BytesIO
from typing import Any, cast

import numpy as np
from PIL import Image

_SPACES = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK", b"Lab ": "LAB"}
"""Pillow's mode for the colour space in the header of an ICC profile."""
_MAX_PROFILE_BYTES = 2**25
"""Largest profile in bytes. Larger ones are not used."""
_SRGB_TOLERANCE = 2
"""Largest difference, of 255, of a profile that counts as sRGB."""


_D50 = (0.9642, 1.0, 0.8249)
"""White of ICC profiles, as XYZ."""
_ADOBE_RGB = {
    b"rXYZ": (0.60974, 0.31111, 0.01947),
    b"gXYZ": (0.20528, 0.62567, 0.06087),
    b"bXYZ": (0.14919, 0.06322, 0.74457),
}
"""XYZ of the primaries of Adobe RGB (1998), adapted to D50."""


@functools.cache
def adobe_rgb_profile() -> bytes:
    """Build the ICC profile of Adobe RGB.

    Cameras state by an EXIF tag that a picture has these colours, often without a profile.

    Returns:
        Content of the profile.

    Reference:
        ICC.1:2001-04; Adobe RGB (1998) Color Image Encoding.
    """
    name = b"Adobe RGB\0"
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, 563) + b"\0\0"  # gamma 563 / 256
    tags = {key: _icc_xyz(xyz) for key, xyz in (_ADOBE_RGB | {b"wtpt": _D50}).items()}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    tags[b"desc"] = b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + b"\0" * 80
    table = struct.pack(">I", len(tags))
    start = 132 + 12 * len(tags)
    content = b""
    for key, data in tags.items():
        table += struct.pack(">4sII", key, start + len(content), len(data))
        content += data + b"\0" * (-len(data) % 4)
    head = struct.pack(">I4xI4s4s4s", start + len(content), 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    head += b"\0" * 12 + b"acsp" + b"\0" * 28 + _icc_xyz(_D50)[8:]
    return head.ljust(128, b"\0") + table + content


def _icc_xyz(xyz: tuple[float, float, float]) -> bytes:
    """Encode a colour as an element of an ICC profile."""
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(65536 * value) for value in xyz))


def convert_to_srgb(image: Image.Image, profile: bytes, notes: list[str]) -> Image.Image | None:
    """Convert a picture from the colours of its profile to sRGB.

    Args:
        image: A picture in mode RGB, L, CMYK or LAB.
        profile: The embedded ICC profile.
        notes: Receives a sentence about the conversion, or why the profile is not used.

    Returns:
        The picture in mode RGB. None if the profile is that of sRGB or is not used.
    """
    mode = _SPACES.get(bytes(profile[16:20]))
    if image.mode == "L" and mode == "RGB":
        image = image.convert("RGB")
    if mode != image.mode or len(profile) > _MAX_PROFILE_BYTES:
        notes.append("the colour profile is not used: it does not fit the picture")
        return None
    try:
        transform, name = _transform(bytes(profile), mode)
    except ImportError:
        notes.append("the colour profile is not used: Pillow lacks LittleCMS")
        return None
    except Exception:  # LittleCMS has errors of several types for damaged profiles
        notes.append("the colour profile is damaged and not used")
        return None
    if transform is None:
        return None
    notes.append(f"colours converted from {name} to sRGB")
    return transform.apply(image)


@functools.lru_cache(maxsize=8)
def _transform(profile: bytes, mode: str) -> tuple[Any, str]:
    """Build the transform of a profile to sRGB, with its name. None if it changes nothing."""
    from PIL import ImageCms

    source = ImageCms.ImageCmsProfile(BytesIO(profile))
    target = ImageCms.createProfile("sRGB")
    transform = ImageCms.buildTransform(
        source,
        target,
        mode,
        "RGB",
        renderingIntent=ImageCms.Intent.PERCEPTUAL,
    )
    description = cast(Any, source.profile).profile_description or "its colour profile"
    name = "".join(c for c in description.strip() if c.isprintable())[:60]
    if mode in ("RGB", "L"):
        samples = _samples(mode)
        converted = np.asarray(transform.apply(samples)).astype(int)
        if np.abs(converted - np.asarray(samples.convert("RGB"))).max() <= _SRGB_TOLERANCE:
            return None, name
    return transform, name


def _samples(mode: str) -> Image.Image:
    """Make a picture with colours of the whole range."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    levels = np.linspace(0, 255, 9).round().astype(np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(levels, levels, levels), -1).reshape(27, 27, 3))
