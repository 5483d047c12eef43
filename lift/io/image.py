"""Load picture files as frames with cameras, and save pictures."""

import difflib
import hashlib
import importlib.util
import math
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import ExifTags, Image
from torch import Tensor
from torch.nn.functional import interpolate

from lift.geometry import pinhole
from lift.io.decoding import decode_picture, to_rgb
from lift.io.exif import TRANSPOSES, exif_focal
from lift.io.files import read_file
from lift.io.names import user_path
from lift.io.picture_formats import damage_error, open_picture, quiet_metadata
from lift.io.sizing import MIN_SIDE, MULTIPLE, ShapeChoice, assumed_focal, working_size
from lift.types import Cameras, Frames

PHOTOS = {
    "astronaut": "astronaut.png",
    "camera": "camera.png",
    "cat": "chelsea.png",
    "chelsea": "chelsea.png",
    "coffee": "coffee.png",
    "motorcycle_left": "motorcycle_left.png",
    "motorcycle_right": "motorcycle_right.png",
    "rocket": "rocket.jpg",
}
"""File names of the photos that come with scikit-image, by built-in name."""

CALIBRATIONS = {
    "motorcycle_left": (994.978, 311.193, 254.877),
    "motorcycle_right": (994.978, 342.279, 254.877),
}
"""Focal length and principal point in pixels, as published with the stereo pair.

Reference: Scharstein et al., GCPR 2014, reduced four times.
"""


_SIDEWAYS = (
    Image.Transpose.ROTATE_90,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSPOSE,
    Image.Transpose.TRANSVERSE,
)
"""Turns that exchange width and height."""


@dataclass(frozen=True)
class Picture:
    """The input picture of a run with its camera."""

    name: str
    """Name of the file without its suffix, or of the built-in picture."""
    frames: Frames
    """One frame of the picture's pixels."""
    cameras: Cameras
    """One view at the world's origin."""
    digest: str
    """SHA-256 of the file's bytes, or of the pixels of a built-in scene."""
    notes: tuple[str, ...]
    """Sentences about what was assumed or changed."""
    focal_known: bool = True
    """Whether the focal length was measured (EXIF, calibration) and not assumed."""
    full_size: tuple[int, int] | None = None
    """Width and height of the file's picture in pixels, upright. None: there is no single file."""


def load_picture(
    source: str, size: int, field_of_view: float, choose_shape: ShapeChoice | None = None
) -> Picture:
    """Load a picture file, a built-in photo or a built-in scene, in this order of precedence.

    Both sides of the result are multiples of 8. The rest is cropped, at most half a block at each
    edge, so that pixels stay square. The camera accounts for the crop exactly.

    Args:
        source: Path of a file, a name in PHOTOS, or a scene of `lift.synthetic.scenes`.
        size: Largest length of the longer side in pixels. A picture is enlarged only if it is tiny.
        field_of_view: Degrees along the longer side, used if the file states no plausible focal
            length.
        choose_shape: Chooses the shape that the picture is cropped to. None: its own.

    Returns:
        The picture with its camera.

    Raises:
        FileNotFoundError: There is no such file or built-in picture.
        ValueError: The file is not a picture, or a setting is out of range.
    """
    if size < MIN_SIDE:
        raise ValueError(f"size is {size}; a picture needs at least {MIN_SIDE} pixels")
    if not 0 < field_of_view < 180:
        raise ValueError(f"field_of_view is {field_of_view}; choose degrees between 0 and 180")
    path = user_path(source)
    if path.is_file():
        return _load(path, path.stem, size, field_of_view, None, choose_shape)
    if source in PHOTOS:
        package = importlib.util.find_spec("skimage")
        assert package is not None and package.origin is not None, (
            "scikit-image is required by setup.cfg"
        )
        path = Path(package.origin).parent / "data" / PHOTOS[source]
        calibration = CALIBRATIONS.get(source)
        return _load(path, source, size, field_of_view, calibration, choose_shape)
    from lift.synthetic import scenes

    if source in scenes.SCENES:
        return _render(source, size, field_of_view, choose_shape)
    if path.is_dir():
        raise ValueError(f"image is {source!r}, a folder; name one picture in it")
    names = [*PHOTOS, *scenes.SCENES]
    suggestions = difflib.get_close_matches(source, names, n=3) or names
    raise FileNotFoundError(
        f"image is {source!r}; there is no such file, and built-in pictures are called "
        f"{', '.join(suggestions)}"
    )


def resize_images(
    images: UInt8[Tensor, "frame y x 3"], width: int, height: int
) -> UInt8[Tensor, "frame height width 3"]:
    """Resize pictures by antialiased cubic interpolation, without keeping their aspect.

    Args:
        images: The pictures.
        width: Width of the result in pixels.
        height: Height of the result in pixels.

    Returns:
        The resized pictures.
    """
    if images.shape[1:3] == (height, width):
        return images
    planes = interpolate(
        images.permute(0, 3, 1, 2).float(),
        (height, width),
        mode="bicubic",
        antialias=True,
        align_corners=False,
    )
    return planes.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def save_image(
    path: Path,
    image: UInt8[Tensor, "height width *channel"] | Float[Tensor, "height width *channel"],
) -> None:
    """Write a picture to a file.

    Args:
        path: The file. Its suffix selects the format.
        image: Grey or RGB picture, uint8, or float in [0, 1]. Other floats are clamped.
    """
    # PNG compression at level 1 gives files that are 10 % larger, three times as fast.
    options: dict[str, Any] = {"compress_level": 1} if path.suffix.lower() == ".png" else {}
    Image.fromarray(_to_array(image)).save(path, **options)


def encode_image(
    image: UInt8[Tensor, "height width *channel"] | Float[Tensor, "height width *channel"],
    format: str = "png",
    quality: int = 88,
) -> bytes:
    """Encode a picture as the content of a file.

    Args:
        image: Grey or RGB picture, uint8, or float in [0, 1]. Other floats are clamped.
        format: "png" or "jpeg".
        quality: JPEG quality from 1 to 95.

    Returns:
        The content of the file.
    """
    stream = BytesIO()
    options: dict[str, Any] = {"quality": quality} if format == "jpeg" else {}
    Image.fromarray(_to_array(image)).save(stream, format=format, **options)
    return stream.getvalue()


def read_image(path: Path, upright: bool = True) -> UInt8[Tensor, "height width 3"]:
    """Read a picture file at its own size, as 8-bit RGB over white.

    Args:
        path: The file.
        upright: Whether to turn the picture as its EXIF orientation says.

    Returns:
        The pixels.

    Raises:
        ValueError: The file is not a picture, or it is damaged.
    """
    image, _, tags = decode_picture(read_file(Path(path)), str(path), None, [])
    transpose = TRANSPOSES.get(tags.get(ExifTags.Base.Orientation, 1)) if upright else None
    pixels = to_rgb(image, str(path), [])
    return _to_tensor(pixels.transpose(transpose) if transpose is not None else pixels)


def _to_tensor(image: Image.Image) -> UInt8[Tensor, "height width 3"]:
    return torch.from_numpy(np.array(image))


def read_picture(path: Path, size: int, field_of_view: float) -> Picture:
    """Load a picture file as `load_picture` does, without built-in names.

    Args:
        path: The file.
        size: Largest length of the longer side in pixels.
        field_of_view: Degrees along the longer side, if the file states no plausible focal length.

    Returns:
        The picture with its camera.

    Raises:
        ValueError: The file is not a picture.
    """
    return _load(Path(path), Path(path).stem, size, field_of_view, None)


def picture_size(path: Path, upright: bool = True) -> tuple[int, int]:
    """Read the size of a picture file without decoding it.

    Args:
        path: The file.
        upright: Whether to apply the EXIF orientation.

    Returns:
        Width and height in pixels, as `read_image` returns them.

    Raises:
        ValueError: The file is not a picture.
    """
    with open_picture(Path(path), str(path)) as image:
        try:
            with quiet_metadata():
                orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        except Exception as error:  # decoders raise many types for damaged data
            raise damage_error(str(path), error) from None
        swap = orientation in (5, 6, 7, 8) and upright
        return (image.height, image.width) if swap else (image.width, image.height)


def _to_array(image: Tensor) -> np.ndarray:
    """Convert a picture to uint8; floats are clamped to [0, 1]."""
    image = image.detach().cpu()
    if image.dtype != torch.uint8:
        image = (image.clamp(0, 1) * 255).round().to(torch.uint8)
    return image.contiguous().numpy()


def _render(
    name: str, size: int, field_of_view: float, choose_shape: ShapeChoice | None
) -> Picture:
    """Render the picture of a built-in scene, square by default. Its depth is left out."""
    from lift.synthetic.scenes import render

    size = size // MULTIPLE * MULTIPLE
    notes = [f"a synthetic scene, seen with a field of view of {field_of_view:g} degrees"]
    width, height, _ = working_size(size, size, size, notes, choose_shape)
    cameras = pinhole(width, height, size / 2 / math.tan(math.radians(field_of_view) / 2))
    frames = Frames(render(name, cameras).images)
    digest = hashlib.sha256(frames.images.numpy().tobytes()).hexdigest()
    return Picture(name, frames, cameras, digest, tuple(notes))


def _load(
    path: Path,
    name: str,
    size: int,
    field_of_view: float,
    calibration: tuple[float, float, float] | None,
    choose_shape: ShapeChoice | None = None,
) -> Picture:
    """Load a picture file, with focal length and principal point if they are calibrated."""
    notes: list[str] = []
    data = read_file(path)
    image, (full_width, full_height), tags = decode_picture(data, str(path), 2 * size, notes)
    if min(full_width, full_height) < MIN_SIDE:
        raise ValueError(
            f"{path} is {full_width} x {full_height} pixels; each side needs at least {MIN_SIDE}"
        )
    transpose = TRANSPOSES.get(tags.get(ExifTags.Base.Orientation, 1))
    focal = calibration[0] if calibration else exif_focal(tags, full_width, full_height, notes)
    if choose_shape is not None and transpose in _SIDEWAYS:
        choose_shape = _for_transposed(choose_shape)
    width, height, crop = working_size(full_width, full_height, size, notes, choose_shape)
    focal_known = focal is not None
    if focal is None:
        focal = assumed_focal(full_width, full_height, field_of_view, notes)
    factor = round(max(full_width, full_height) / max(image.size))
    pixels = _resize(image, (width, height), crop, factor, str(path), notes)
    zoom = width / (crop[2] - crop[0])
    cx, cy = (calibration or (0.0, full_width / 2, full_height / 2))[1:]
    cx = (cx - crop[0]) * zoom
    cy = (cy - crop[1]) * zoom
    full_size = (full_width, full_height)
    if transpose in _SIDEWAYS:
        full_size = (full_height, full_width)
    if transpose is not None:
        assert calibration is None, "calibrated built-in photos are stored upright"
        pixels = pixels.transpose(transpose)
        if pixels.width == height and pixels.height == width:
            cx, cy = cy, cx
    cameras = pinhole(pixels.width, pixels.height, focal * zoom)
    intrinsics = cameras.intrinsics.clone()
    intrinsics[0, :2, 2] = torch.tensor([cx, cy])
    return Picture(
        name,
        Frames(_to_tensor(pixels)[None]),
        replace(cameras, intrinsics=intrinsics),
        hashlib.sha256(data).hexdigest(),
        tuple(notes),
        focal_known,
        full_size,
    )


def _for_transposed(choose_shape: ShapeChoice) -> ShapeChoice:
    """Adapt a choice of shape to a picture whose width and height are stored exchanged."""

    def choose(width: int, height: int) -> tuple[tuple[int, int] | None, str]:
        shape, note = choose_shape(height, width)
        return (shape[1], shape[0]) if shape else None, note

    return choose


def _resize(
    image: Image.Image,
    size: tuple[int, int],
    crop: tuple[float, float, float, float],
    factor: int,
    name: str,
    notes: list[str],
) -> Image.Image:
    """Crop and resize a picture that was decoded at 1 / `factor` of its full size."""
    width, height = size
    reduction = max(min(image.width // (2 * width), image.height // (2 * height)), 1)
    averages = image.mode in ("RGB", "RGBA", "L", "CMYK") and "transparency" not in image.info
    if reduction > 1 and averages:
        # The last block of a row may be incomplete. Therefore the crop is exact.
        image = image.reduce(reduction)
        factor = factor * reduction
    pixels = to_rgb(image, name, notes)
    left, top, right, bottom = crop
    box = (left / factor, top / factor, right / factor, bottom / factor)
    return pixels.resize((width, height), Image.Resampling.LANCZOS, box=box)
