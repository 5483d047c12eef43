"""Decode animated pictures frame by frame. ffmpeg would leave out frames with the same time."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image

from lift.io.decoding import to_rgb
from lift.io.exif import TRANSPOSES
from lift.io.picture_formats import damage_error, open_picture, quiet_metadata

_GIF_ASPECT_BYTE = 12
"""Position of the pixel aspect in a GIF file. It is (value + 15) / 64, and 0 if it is square."""
_MAX_ASPECT = 8.0
"""Largest pixel aspect. One beyond is a mistake of the file."""


def is_animation(path: Path) -> bool:
    """Whether a file is a GIF, or a WebP or PNG picture of several frames.

    Args:
        path: The file. Its first bytes decide, not its name.

    Returns:
        True for such a file.
    """
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        head = stream.read(12)
    if head.startswith(b"GIF8"):
        return True
    if not head.startswith(b"\x89PNG\r\n") and (head[:4], head[8:]) != (b"RIFF", b"WEBP"):
        return False
    with open_picture(path, str(path)) as image:
        return bool(getattr(image, "is_animated", False))


def decode_animation(
    path: Path,
    indices: Sequence[int] | None,
    grey_side: int | None,
    max_frames: int,
    max_pixels: int,
) -> Iterator[UInt8[np.ndarray, "height width *channel"]]:
    """Decode an animated picture, each frame of the file once, whatever its duration.

    Frames are upright, over white, and stretched so that pixels are square. Parts of a frame
    outside of the first one are left out.

    Args:
        path: The file.
        indices: Indices of the frames to decode, in ascending order. None decodes all.
        grey_side: Longer side in pixels, at most, of grey frames. None decodes RGB at full size.
        max_frames: Largest number of frames.
        max_pixels: Largest number of pixels of a frame.

    Yields:
        RGB frames [height width 3], or grey ones [height width].

    Raises:
        ValueError: The file is damaged, or exceeds a limit.
    """
    index_set = None if indices is None else set(indices)
    with open_picture(path, str(path)) as image:
        transpose = _transpose(image, path)
        aspect = _pixel_aspect(path) if image.format == "GIF" else 1.0
        size = image.size
        number = 0
        while _seek(image, number, path):
            if number >= max_frames:
                raise ValueError(
                    f"{str(path)!r} has more than {max_frames} frames; cut out a part of it"
                )
            if image.width * image.height > max_pixels:
                raise ValueError(
                    f"{str(path)!r} has frames of {image.width} x {image.height} pixels; at most "
                    f"{max_pixels // 10**6} million are read"
                )
            if index_set is None or number in index_set:
                frame = _to_rgb(image, number, path)
                frame = frame if frame.size == size else frame.crop((0, 0, *size))
                frame = _scale(frame, aspect, grey_side, max_pixels, path)
                yield np.array(frame if transpose is None else frame.transpose(transpose))
            number += 1
            if index_set is not None and number > max(index_set, default=-1):
                return


def _seek(image: Image.Image, number: int, path: Path) -> bool:
    """Go to a frame, and return whether it exists."""
    try:
        image.seek(number)
    except EOFError:
        return False
    except Exception as error:  # decoders raise many types for damaged data
        raise damage_error(f"frame {number} of {str(path)!r}", error) from None
    return True


def _to_rgb(image: Image.Image, number: int, path: Path) -> Image.Image:
    """Decode the frame at which a picture is."""
    name = f"frame {number} of {str(path)!r}"
    try:
        return to_rgb(image.copy(), name, [])
    except Exception as error:  # decoders raise many types for damaged data
        raise damage_error(name, error) from None


def _scale(
    frame: Image.Image, aspect: float, grey_side: int | None, max_pixels: int, path: Path
) -> Image.Image:
    """Make pixels square, and reduce grey frames."""
    width, height = max(1, round(frame.width * aspect)), frame.height
    if width * height > max_pixels:
        raise ValueError(
            f"{str(path)!r} has frames of {width} x {height} square pixels; at most "
            f"{max_pixels // 10**6} million are read"
        )
    if grey_side is None:
        return frame if width == frame.width else frame.resize((width, height))
    factor = min(1.0, grey_side / max(width, height))
    size = max(1, round(factor * width)), max(1, round(factor * height))
    grey = frame.convert("L")
    return grey if size == grey.size else grey.resize(size, Image.Resampling.BOX)


def _transpose(image: Image.Image, path: Path) -> Image.Transpose | None:
    """Return the operation that turns the frames upright."""
    try:
        with quiet_metadata():
            return TRANSPOSES.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception as error:  # decoders raise many types for damaged data
        raise damage_error(repr(str(path)), error) from None


def _pixel_aspect(path: Path) -> float:
    """Read the width of a GIF's pixel relative to its height."""
    with path.open("rb") as stream:
        value = stream.read(_GIF_ASPECT_BYTE + 1)[_GIF_ASPECT_BYTE]
    aspect = (value + 15) / 64 if value else 1.0
    return min(max(aspect, 1 / _MAX_ASPECT), _MAX_ASPECT)
