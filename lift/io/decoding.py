"""Decode picture files to 8-bit RGB."""

from typing import Any, cast

import numpy as np
from PIL import ExifTags, Image

from lift.io.color_profiles import adobe_rgb_profile, convert_to_srgb
from lift.io.picture_formats import (
    check_pixels,
    damage_error,
    open_picture,
    quiet_metadata,
)

_MAX_COUNTED_BYTES = 2**24
"""Size in bytes up to which the pictures of an animation are counted for a note."""


def decode_picture(
    data: bytes, name: str, min_side: int | None, notes: list[str]
) -> tuple[Image.Image, tuple[int, int], dict[int, Any]]:
    """Decode the first picture of a file.

    Args:
        data: Content of the file.
        name: Name of the file in error messages.
        min_side: A JPEG is halved up to three times while it is decoded, as long as its sides
            stay at least this long in pixels. None decodes at full size.
        notes: Receives a sentence if the file holds several pictures.

    Returns:
        The picture, width and height of the file's picture, and its EXIF tags.

    Raises:
        ValueError: The file is not a picture, is damaged, or has too many pixels.
        ImportError: The format needs a package that is not installed.
    """
    image = open_picture(data, name)
    full_size = image.size
    if min_side is not None:
        image.draft(None, (min_side, min_side))  # other formats ignore it
    check_pixels(image.size, name)
    try:
        image.load()
        with quiet_metadata():
            tags = exif_tags(image)
            if "icc_profile" not in image.info and _is_adobe_rgb(image):
                image.info["icc_profile"] = adobe_rgb_profile()
            several = getattr(image, "is_animated", False)
            count = getattr(image, "n_frames", 1) if len(data) <= _MAX_COUNTED_BYTES else "several"
    except Exception as error:  # decoders raise many types for damaged data
        raise damage_error(name, error) from None
    if several:
        notes.append(f"the first of {count} pictures in the file")
    return image, full_size, tags


def _is_adobe_rgb(image: Image.Image) -> bool:
    """Whether EXIF states Adobe RGB, as cameras do by the interoperability index R03."""
    try:
        interoperability = image.getexif().get_ifd(ExifTags.IFD.Interop)
    except KeyError:  # Pillow up to 12, for a picture without this entry
        return False
    return image.mode == "RGB" and interoperability.get(ExifTags.Interop.InteropIndex) == "R03"


def exif_tags(image: Image.Image) -> dict[int, Any]:
    """Read the EXIF tags of a picture.

    Args:
        image: Pillow's picture.

    Returns:
        Values by tag, those of the camera included.
    """
    exif = image.getexif()
    return {**exif, **exif.get_ifd(ExifTags.IFD.Exif)}


def to_rgb(image: Image.Image, name: str, notes: list[str]) -> Image.Image:
    """Convert a picture to 8-bit sRGB over white.

    An embedded colour profile is applied. Pillow reads 16-bit colour as its upper 8 bits, but would
    clip 16-bit grey.

    Args:
        image: The picture in any mode.
        name: Name of the file in error messages.
        notes: Receives sentences about lossy conversions.

    Returns:
        The picture in mode RGB.

    Raises:
        ValueError: The picture holds 32-bit pixels.
    """
    profile = image.info.get("icc_profile")
    # Some versions of Pillow open 16-bit PNG files in mode I.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        grey = (np.asarray(image).astype(np.float32) / 257).round().clip(0, 255)
        notes.append("16-bit grey, brought to 8 bits")
        return _colors_to_srgb(Image.fromarray(grey.astype(np.uint8)), profile, notes)
    if image.mode in ("I", "F"):
        raise ValueError(
            f"{name} holds 32-bit pixels whose range is not known; save it with 8 or 16 bits"
        )
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image.info.pop("transparency", None)
        alpha = image.getchannel("A")
        colors = _colors_to_srgb(image.convert("RGB"), profile, notes)
        min_alpha, _ = cast(tuple[float, float], alpha.getextrema())
        if min_alpha == 255:
            return colors
        notes.append("transparency laid over white")
        colors.putalpha(alpha)
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, colors).convert("RGB")
    if image.mode == "P":
        image = image.convert("RGB")
    return _colors_to_srgb(image, profile, notes)


def _colors_to_srgb(image: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    """Convert a picture without transparency to sRGB."""
    if profile and image.mode in ("RGB", "L", "CMYK", "LAB"):
        converted = convert_to_srgb(image, profile, notes)
        if converted is not None:
            return converted
    if image.mode == "CMYK":
        notes.append("CMYK, converted without a colour profile")
    if image.mode == "LAB":
        from PIL import ImageCms

        lab = ImageCms.createProfile("LAB")
        srgb = ImageCms.createProfile("sRGB")
        return ImageCms.buildTransform(lab, srgb, "LAB", "RGB").apply(image)
    return image if image.mode == "RGB" else image.convert("RGB")
