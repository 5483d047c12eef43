"""Recognize picture files by their first bytes, and open them with the decoder of that format.

Only the formats of PICTURE_FORMATS reach a decoder. Pillow knows others, such as EPS, which it
hands to other programs.
"""

import importlib
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from PIL import Image

from lift.io.files import check_regular

PICTURE_FORMATS = ("JPEG", "PNG", "WebP", "TIFF", "BMP", "GIF", "PPM", "AVIF", "HEIC")
"""Formats of pictures that are read. HEIC needs the package pillow-heif."""

MAX_PIXELS = 200_000_000
"""Largest number of pixels, after a JPEG is reduced while decoding. As RGB they take 0.6 GB."""

_MODULES = {
    "JPEG": "JpegImagePlugin",
    "PNG": "PngImagePlugin",
    "WEBP": "WebPImagePlugin",
    "TIFF": "TiffImagePlugin",
    "BMP": "BmpImagePlugin",
    "GIF": "GifImagePlugin",
    "PPM": "PpmImagePlugin",
    "AVIF": "AvifImagePlugin",
}
"""Pillow's module for each of its formats."""

_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"P1", "PPM"),
    (b"P2", "PPM"),
    (b"P3", "PPM"),
    (b"P4", "PPM"),
    (b"P5", "PPM"),
    (b"P6", "PPM"),
)
"""First bytes of a file and Pillow's name of its format."""

_AVIF_BRANDS = (b"avif", b"avis")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1")
"""Brands of files in the container of HEIF."""
_HEAD_BYTES = 64
"""Number of bytes by which a format is recognized."""
_LOCK = threading.Lock()
"""Guards Pillow's limit and Python's filters of warnings, which all threads share."""


def open_picture(source: Path | bytes, name: str) -> Image.Image:
    """Open a picture without decoding its pixels.

    Args:
        source: The file, or its content.
        name: Name of the file in error messages.

    Returns:
        Pillow's picture. Use it in a `with` block if the source is a file. Its size may exceed
        MAX_PIXELS; `check_pixels` compares them.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file has another format, or is damaged.
        ImportError: The format needs a package that is not installed.
    """
    if isinstance(source, bytes):
        head = source[:_HEAD_BYTES]
    else:
        check_regular(source)
        with source.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    format = _recognize(head)
    if format is None:
        raise ValueError(
            f"{name} is not a picture in any format known here ({', '.join(PICTURE_FORMATS)})"
        )
    _load_decoder(format, name)
    if head[12:16] == b"VP8X":  # WebP's decoder reserves the canvas as soon as it opens a file
        width, height = (1 + int.from_bytes(head[k : k + 3], "little") for k in (24, 27))
        check_pixels((width, height), name)
    with quiet_metadata():
        limit = Image.MAX_IMAGE_PIXELS
        try:
            Image.MAX_IMAGE_PIXELS = None  # Pillow's limit is too low for phones; ours follows
            image = Image.open(
                BytesIO(source) if isinstance(source, bytes) else source, formats=(format,)
            )
        except Exception as error:  # decoders raise many types for damaged data
            raise damage_error(name, error) from None
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    if min(image.size) < 1:
        raise ValueError(f"{name} is damaged: its size is {image.width} x {image.height} pixels")
    return image


@contextmanager
def quiet_metadata() -> Iterator[None]:
    """Ignore warnings about metadata that is not used. One thread at a time is in the block."""
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def check_pixels(size: tuple[int, int], name: str) -> None:
    """Raise ValueError if a picture has too many pixels to decode it.

    Args:
        size: Width and height in pixels.
        name: Name of the file in the message.

    Raises:
        ValueError: There are more than MAX_PIXELS.
    """
    if size[0] * size[1] > MAX_PIXELS:
        raise ValueError(
            f"{name}: {size[0]} x {size[1]} pixels are more than the limit of "
            f"{MAX_PIXELS // 10**6} million; reduce the picture"
        )


def damage_error(name: str, error: Exception) -> ValueError:
    """Make the error for a picture that a decoder cannot read.

    Args:
        name: Name of the file.
        error: The decoder's exception.

    Returns:
        An error of one line.
    """
    if isinstance(error, Image.UnidentifiedImageError):
        return ValueError(f"{name} is damaged: its header cannot be read")
    if isinstance(error, MemoryError):
        return ValueError(f"{name} needs more memory than there is to decode it")
    reason = " ".join(str(error).split()) or type(error).__name__
    return ValueError(f"{name} is damaged: {reason[:200]}")


def _recognize(head: bytes) -> str | None:
    """Return Pillow's name of the format of a file's first bytes, or None."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        brands = [head[8:12], *(head[k : k + 4] for k in range(16, len(head) - 3, 4))]
        if any(brand in _AVIF_BRANDS for brand in brands):
            return "AVIF"
        return "HEIF" if any(brand in _HEIF_BRANDS for brand in brands) else None
    return next((format for magic, format in _MAGIC if head.startswith(magic)), None)


def _load_decoder(format: str, name: str) -> None:
    """Register the decoder of a format with Pillow."""
    if format in Image.OPEN:
        return
    if format == "HEIF":
        try:
            import pillow_heif  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise ImportError(
                f"{name} is a HEIC picture, which needs the package pillow-heif ({error}): "
                "pip install 'lift[heif]', or save the picture as JPEG"
            ) from None
        pillow_heif.register_heif_opener()
        return
    try:
        importlib.import_module(f"PIL.{_MODULES[format]}")
    except ImportError:
        raise ImportError(
            f"{name} is a picture of the format {format}, which this version of Pillow cannot "
            "read: pip install --upgrade pillow"
        ) from None
