"""From anyone's picture to a frame and a camera, and back to files."""

import difflib
import hashlib
import importlib.util
import math
import struct
import warnings
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
"""Photos that come with scikit-image's wheel."""

CALIBRATED = {
    "motorcycle_left": (994.978, 311.193, 254.877),
    "motorcycle_right": (994.978, 342.279, 254.877),
}
"""Focal length and principal point in pixels, as published with the stereo pair (Scharstein et al., GCPR 2014, reduced four times)."""

SMALLEST, UPSCALED, WIDEST = 16, 64, 4.0
"""Pixels below which a side is refused, to which a tiny picture's longer side is brought, and the widest aspect that is not cropped."""

MULTIPLE = 8
"""Both sides of a loaded picture are multiples of it: video networks work on blocks."""

_MOST_PIXELS = 200_000_000  # once a JPEG has been reduced while decoding; 0.6 GB of RGB
_FOCAL_FIELD = (
    5.0,
    150.0,
)  # degrees of the longer side that a focal length in EXIF may give before it is not believed
_INCHES = {2: 1.0, 3: 1 / 2.54, 4: 1 / 25.4, 5: 1 / 25400}  # EXIF's resolution units
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Picture:
    """The input of a run. `digest` is the SHA-256 of the file's bytes (of the pixels, for a scene); `notes` says in sentences what
    was assumed or changed. `focal_known`: whether the focal length was measured (EXIF, calibration) rather than assumed.
    """

    name: str
    frames: Frames
    cameras: Cameras
    digest: str
    notes: tuple[str, ...]
    focal_known: bool = True


def load_picture(source: str, size: int, field_of_view: float) -> Picture:
    """Loads a picture file, a photo of PHOTOS or a scene of `lift.synthetic.scenes`, looked for in this order.

    size: pixels of the longer side of the result; never more than the source has, tiny pictures aside. Both sides are multiples of
    8: what does not fit is cropped, at most half a block at each edge, so that pixels stay square; `cameras` follows exactly.
    field_of_view: degrees along the longer side, taken where the file states no focal length that can be believed.
    Raises FileNotFoundError or ValueError, one line each, for what is not there or not a picture.
    """
    if size < SMALLEST:
        raise ValueError(f"size is {size}; a picture needs at least {SMALLEST} pixels")
    if not 0 < field_of_view < 180:
        raise ValueError(f"field_of_view is {field_of_view}; choose degrees between 0 and 180")
    path = Path(source).expanduser()
    if path.is_file():
        return _read(path, path.stem, size, field_of_view, None)
    if source in PHOTOS:
        package = importlib.util.find_spec("skimage")
        assert package is not None and package.origin is not None, (
            "scikit-image is required by setup.cfg"
        )
        path = Path(package.origin).parent / "data" / PHOTOS[source]
        return _read(path, source, size, field_of_view, CALIBRATED.get(source))
    from lift.synthetic import scenes

    if source in scenes.SCENES:
        return _render(source, size, field_of_view)
    if path.is_dir():
        raise ValueError(f"image is {source!r}, a folder; name one picture in it")
    known = [*PHOTOS, *scenes.SCENES]
    near = difflib.get_close_matches(source, known, n=3) or known
    raise FileNotFoundError(
        f"image is {source!r}; there is no such file, and built-in pictures are called {', '.join(near)}"
    )


def resized(
    images: UInt8[Tensor, "frame y x 3"], width: int, height: int
) -> UInt8[Tensor, "frame height width 3"]:
    """Stretched, by cubic interpolation, antialiased."""
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
    """Writes one picture, grey or RGB, uint8 or in [0, 1] (clamped); the suffix says the format."""
    # A PNG at level 1 is a tenth larger and made three times as fast; other formats know no such setting.
    Image.fromarray(_bytes(image)).save(
        path, **({"compress_level": 1} if path.suffix.lower() == ".png" else {})
    )


def encode_image(
    image: UInt8[Tensor, "height width *channel"] | Float[Tensor, "height width *channel"],
    format: str = "png",
    quality: int = 88,
) -> bytes:
    """The content of a png or jpeg file; `quality` matters to jpeg only."""
    stream = BytesIO()
    Image.fromarray(_bytes(image)).save(
        stream, format=format, **({"quality": quality} if format == "jpeg" else {})
    )
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
    image, _, tags = _decode(Path(path).read_bytes(), str(path), None, [])
    turn = _TURNS.get(tags.get(ExifTags.Base.Orientation, 1)) if upright else None
    pixels = _rgb(image, str(path), [])
    return _tensor(pixels.transpose(turn) if turn is not None else pixels)


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
    try:
        with Image.open(path) as image:
            lying = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
            turned = lying and upright
            return (image.height, image.width) if turned else (image.width, image.height)
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path} is no picture that can be read: {error}") from None


def _bytes(image: Tensor) -> np.ndarray:
    image = image.detach().cpu()
    return (
        (image if image.dtype == torch.uint8 else (image.clamp(0, 1) * 255).round().to(torch.uint8))
        .contiguous()
        .numpy()
    )


def _tensor(image: Image.Image) -> UInt8[Tensor, "height width 3"]:
    return torch.from_numpy(np.array(image))


def _render(name: str, size: int, field_of_view: float) -> Picture:
    """A scene's own picture, square. Its exact depth is left out: who wants it renders the scene."""
    from lift.synthetic.scenes import render

    size = size // MULTIPLE * MULTIPLE
    cameras = pinhole(size, size, size / 2 / math.tan(math.radians(field_of_view) / 2))
    frames = Frames(render(name, cameras).images)
    digest = hashlib.sha256(frames.images.numpy().tobytes()).hexdigest()
    return Picture(
        name,
        frames,
        cameras,
        digest,
        (f"a synthetic scene, seen with a field of view of {field_of_view:g} degrees",),
    )


def _read(
    path: Path,
    name: str,
    size: int,
    field_of_view: float,
    calibration: tuple[float, float, float] | None,
) -> Picture:
    notes: list[str] = []
    data = path.read_bytes()
    image, (full_width, full_height), tags = _decode(data, str(path), 2 * size, notes)
    if min(full_width, full_height) < SMALLEST:
        raise ValueError(
            f"{path} is {full_width} x {full_height} pixels; each side needs at least {SMALLEST}"
        )
    turn = _TURNS.get(tags.get(ExifTags.Base.Orientation, 1))
    focal = calibration[0] if calibration else _focal(tags, full_width, full_height, notes)
    width, height, box = working_size(full_width, full_height, size, notes)
    focal_known = focal is not None
    if focal is None:
        focal = assumed_focal(full_width, full_height, field_of_view, notes)

    factor = round(max(full_width, full_height) / max(image.size))
    further = max(min(image.width // (2 * width), image.height // (2 * height)), 1)
    if (
        further > 1
        and image.mode in ("RGB", "RGBA", "L", "CMYK")
        and "transparency" not in image.info
    ):  # others do not average
        image, factor = (
            image.reduce(further),
            factor * further,
        )  # the last square of a row may be cut off: hence the exact box
    pixels = _rgb(image, str(path), notes)
    pixels = pixels.resize(
        (width, height), Image.Resampling.LANCZOS, box=tuple(side / factor for side in box)
    )

    zoom = width / (box[2] - box[0])
    cx, cy = (calibration or (0.0, full_width / 2, full_height / 2))[1:]
    cx, cy = (cx - box[0]) * zoom, (cy - box[1]) * zoom
    if turn is not None:
        assert calibration is None, (
            "the built-in photos lie upright"
        )  # else cx and cy would have to turn, too
        pixels = pixels.transpose(turn)
        if pixels.width == height and pixels.height == width:
            cx, cy = cy, cx
    cameras = pinhole(pixels.width, pixels.height, focal * zoom)
    intrinsics = cameras.intrinsics.clone()
    intrinsics[0, :2, 2] = torch.tensor([cx, cy])
    frames = Frames(_tensor(pixels)[None])
    return Picture(
        name,
        frames,
        replace(cameras, intrinsics=intrinsics),
        hashlib.sha256(data).hexdigest(),
        tuple(notes),
        focal_known,
    )


def _decode(
    data: bytes, name: str, least: int | None, notes: list[str]
) -> tuple[Image.Image, tuple[int, int], dict[int, Any]]:
    """The first picture of a file, its full size and its EXIF tags; whatever is wrong with the file becomes one line.

    A JPEG is halved up to three times while it is decoded, as long as its sides stay `least`, so that it never lies in memory whole.
    """
    limit, Image.MAX_IMAGE_PIXELS = (
        Image.MAX_IMAGE_PIXELS,
        None,
    )  # its own is below today's phones; ours comes before decoding, too
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata that is not looked at
            image = Image.open(BytesIO(data))
            full = image.size
            if least is not None:
                image.draft(
                    None, (least, least)
                )  # other formats do not follow, which is not an error
            if image.width * image.height <= _MOST_PIXELS:
                image.load()
                exif = image.getexif()
                tags = {**exif, **exif.get_ifd(ExifTags.IFD.Exif)}
                number = getattr(image, "n_frames", 1)
    except Image.UnidentifiedImageError:
        raise ValueError(f"{name} is not a picture in any format known here") from None
    except (
        OSError,
        SyntaxError,
        ValueError,
        TypeError,
        LookupError,
        EOFError,
        OverflowError,
        struct.error,
    ) as error:
        # Pillow's readers raise all of these on damaged data
        raise ValueError(
            f"{name} is damaged: {' '.join(str(error).split()) or type(error).__name__}"
        ) from None
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    if image.width * image.height > _MOST_PIXELS:
        raise ValueError(
            f"{name}: {full[0]} x {full[1]} pixels are more than the {_MOST_PIXELS // 10**6} million that are taken"
        )
    if number > 1:
        notes.append(f"the first of {number} pictures in the file")
    return image, full, tags


def working_size(
    width: int, height: int, size: int, notes: list[str]
) -> tuple[int, int, tuple[float, float, float, float]]:
    """Find the size at which a picture is worked on, and the part of the picture that fills it.

    Args:
        width: The picture's width in pixels.
        height: The picture's height in pixels.
        size: Pixels of the longer side of the result, at most.
        notes: Gets a sentence about what is cropped or enlarged.

    Returns:
        Width and height of the result, multiples of MULTIPLE, and the box of the picture (left,
        top, right, bottom), centred and of the same aspect, so that pixels stay square.
    """
    seen = [min(width, WIDEST * height), min(height, WIDEST * width)]
    if seen != [width, height]:
        notes.append(
            f"wider than {WIDEST:g}:1, so {seen[0]:.0f} x {seen[1]:.0f} pixels in the middle of {width} x {height} were kept"
        )
    longest, shortest = max(seen), min(seen)
    largest = max(longest, UPSCALED) if longest < UPSCALED else longest
    long = max(int(min(size, largest)) // MULTIPLE * MULTIPLE, MULTIPLE)
    short = max(round(long * shortest / longest / MULTIPLE), 1) * MULTIPLE
    if longest >= UPSCALED:
        short = max(min(short, int(shortest) // MULTIPLE * MULTIPLE), MULTIPLE)
    elif long > longest:
        notes.append(f"only {width} x {height} pixels, enlarged")
    target = (long, short) if seen[0] >= seen[1] else (short, long)
    zoom = max(target[0] / seen[0], target[1] / seen[1])
    half = (target[0] / zoom / 2, target[1] / zoom / 2)
    left, top = max(width / 2 - half[0], 0.0), max(height / 2 - half[1], 0.0)
    return *target, (left, top, width - left, height - top)


def assumed_focal(width: int, height: int, field_of_view: float, notes: list[str]) -> float:
    """Compute the focal length of a picture that does not state one.

    Args:
        width: The picture's width in pixels.
        height: The picture's height in pixels.
        field_of_view: Degrees along the longer side; of a panorama, along what is kept of it.
        notes: Gets a sentence about the assumption.

    Returns:
        The focal length in pixels.
    """
    seen = min(max(width, height), WIDEST * min(width, height))
    notes.append(
        f"focal length from an assumed field of view of {field_of_view:g} degrees along the longer side"
    )
    return seen / 2 / math.tan(math.radians(field_of_view) / 2)


def read_picture(path: Path, size: int, field_of_view: float) -> Picture:
    """Load a picture file as `load_picture` does, without looking for built-in names."""
    return _read(Path(path), Path(path).stem, size, field_of_view, None)


def _focal(tags: dict[int, Any], width: int, height: int, notes: list[str]) -> float | None:
    """Focal length in pixels of the full width x height that EXIF states, unless it cannot be right."""
    values = {}
    for tag in ExifTags.Base:
        try:
            values[tag] = float(tags[tag])
        except (KeyError, TypeError, ValueError, ZeroDivisionError):
            continue  # absent, text, or a fraction over zero
    taken = [
        values.get(tag, 0.0)
        for tag in (ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight)
    ]
    longest, shortest = max(width, height), min(width, height)
    if min(taken) > 0 and not math.isclose(
        max(taken) / min(taken), longest / shortest, rel_tol=0.02
    ):
        notes.append(
            "the focal length in EXIF is not used: the picture was cropped after it had been taken"
        )
        return None
    film, length = (
        values.get(ExifTags.Base.FocalLengthIn35mmFilm, 0.0),
        values.get(ExifTags.Base.FocalLength, 0.0),
    )
    density = values.get(ExifTags.Base.FocalPlaneXResolution, 0.0)
    unit = _INCHES.get(int(values.get(ExifTags.Base.FocalPlaneResolutionUnit, 2)), 0.0)
    if film > 0:
        focal = (
            film / math.hypot(36, 24) * math.hypot(width, height)
        )  # of equal angle along the diagonal (CIPA DCG-001)
    elif length > 0 and density > 0 and unit > 0:
        focal = length / 25.4 * density / unit * (longest / max(taken) if max(taken) > 0 else 1.0)
    else:
        return None
    field = math.degrees(2 * math.atan(longest / 2 / focal)) if math.isfinite(focal) else 0.0
    if not _FOCAL_FIELD[0] <= field <= _FOCAL_FIELD[1]:
        notes.append(
            f"the focal length in EXIF is not used: it would give a field of view of {field:.3g} degrees"
        )
        return None
    notes.append(
        f"focal length from EXIF: {focal:.0f} pixels at {width} x {height}, a field of view of {field:.0f} degrees"
    )
    return focal


def _rgb(image: Image.Image, name: str, notes: list[str]) -> Image.Image:
    """8-bit RGB. Pillow reads 16-bit colour as the upper 8 bits already, but would clip 16-bit grey."""
    if image.mode.startswith("I;16") or (
        image.mode == "I" and image.format == "PNG"
    ):  # some Pillows open the latter so
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
        if image.getextrema()[3][0] < 255:
            notes.append("transparency laid over white")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode == "CMYK":
        notes.append("CMYK, converted without a colour profile")
    return image if image.mode == "RGB" else image.convert("RGB")
