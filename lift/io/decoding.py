"""Decode picture files to 8-bit RGB."""

import struct
import warnings
from io import BytesIO
from typing import Any, cast

import numpy as np
from PIL import ExifTags, Image

_MAX_PIXELS = 200_000_000
"""Largest number of pixels, after a JPEG is reduced while decoding. As RGB they take 0.6 GB."""

_DECODING_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    OverflowError,
    struct.error,
)
"""Exceptions that Pillow's readers raise on damaged data."""


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
    """
    pillow_limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None  # Pillow's limit is too low for phones; ours applies below
    image = None
    full_size = (0, 0)
    tags: dict[int, Any] = {}
    count = 1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata that is not used
            image = Image.open(BytesIO(data))
            full_size = image.size
            if min_side is not None:
                image.draft(None, (min_side, min_side))  # other formats ignore it
            if image.width * image.height <= _MAX_PIXELS:
                image.load()
                exif = image.getexif()
                tags = {**exif, **exif.get_ifd(ExifTags.IFD.Exif)}
                count = getattr(image, "n_frames", 1)
    except Image.UnidentifiedImageError:
        raise ValueError(f"{name} is not a picture in any format known here") from None
    except _DECODING_ERRORS as error:
        raise ValueError(
            f"{name} is damaged: {' '.join(str(error).split()) or type(error).__name__}"
        ) from None
    finally:
        Image.MAX_IMAGE_PIXELS = pillow_limit
    assert image is not None
    if image.width * image.height > _MAX_PIXELS:
        raise ValueError(
            f"{name}: {full_size[0]} x {full_size[1]} pixels are more than the limit of "
            f"{_MAX_PIXELS // 10**6} million"
        )
    if count > 1:
        notes.append(f"the first of {count} pictures in the file")
    return image, full_size, tags


def to_rgb(image: Image.Image, name: str, notes: list[str]) -> Image.Image:
    """Convert a picture to 8-bit RGB over white.

    Pillow reads 16-bit colour as its upper 8 bits, but would clip 16-bit grey.

    Args:
        image: The picture in any mode.
        name: Name of the file in error messages.
        notes: Receives sentences about lossy conversions.

    Returns:
        The picture in mode RGB.

    Raises:
        ValueError: The picture holds 32-bit pixels.
    """
    # Some versions of Pillow open 16-bit PNG files in mode I.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        grey = (np.asarray(image).astype(np.float32) / 257).round().clip(0, 255)
        notes.append("16-bit grey, brought to 8 bits")
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(
            f"{name} holds 32-bit pixels whose range is not known; save it with 8 or 16 bits"
        )
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image.info.pop("transparency", None)
        min_alpha, _ = cast(tuple[float, float], image.getchannel("A").getextrema())
        if min_alpha < 255:
            notes.append("transparency laid over white")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode == "CMYK":
        notes.append("CMYK, converted without a colour profile")
    return image if image.mode == "RGB" else image.convert("RGB")
