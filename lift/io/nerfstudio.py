"""Read and write nerfstudio's transforms.json, and read its camera_path.json."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lift.io.files import IsAllowed, is_file, is_inside
from lift.io.image import picture_size
from lift.io.parsing import MAX_NUMBER, MAX_SIDE, PARSE_ERRORS, shorten, to_number
from lift.io.views import LENS, OPENGL, MissingSizeError, View, check_name, to_double, to_square
from lift.types import Cameras

MIN_FOCAL = 1e-3
"""Smallest focal length in pixels that a file may state."""
MIN_ANGLE = 1e-4
"""Smallest field of view in radians that a file may state, and smallest distance to 180 degrees."""
MIN_DETERMINANT = 1e-12
"""Smallest determinant of a camera's matrix that is inverted."""
PHOTO_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".PNG", ".JPG", ".JPEG")
"""Suffixes of pictures that a transforms.json may leave out."""


def write_transforms(path: Path, cameras: Cameras, names: Sequence[str]) -> None:
    """Write transforms.json: camera to world with OpenGL axes, intrinsics with every frame.

    Reading the file restores the cameras to 1e-6 of their distance from the world's origin.

    Args:
        path: The file.
        cameras: The views.
        names: Path of each view's picture relative to the file, or empty.
    """
    content = {"camera_model": "OPENCV", "frames": transforms_frames(cameras, names)}
    Path(path).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def transforms_frames(cameras: Cameras, names: Sequence[str]) -> list[dict[str, Any]]:
    """Describe views as the frames of a transforms.json.

    Args:
        cameras: The views.
        names: Path of each view's picture relative to the file, or empty.

    Returns:
        A frame for each view: camera to world with OpenGL axes, and intrinsics in pixels.
    """
    to_world = np.linalg.inv(to_double(cameras.world_to_camera)) @ OPENGL
    return [
        {
            "file_path": name,
            "fl_x": k[0, 0],
            "fl_y": k[1, 1],
            "cx": k[0, 2],
            "cy": k[1, 2],
            "w": cameras.width,
            "h": cameras.height,
            "transform_matrix": matrix.tolist(),
        }
        for name, k, matrix in zip(names, to_double(cameras.intrinsics), to_world, strict=True)
    ]


def read_transforms(
    content: dict[str, Any],
    folder: Path,
    size: tuple[int, int] | None,
    is_allowed: IsAllowed | None = None,
) -> list[View]:
    """Read the frames of a transforms.json, also those of NeRF's synthetic scenes.

    Args:
        content: The parsed file.
        folder: Folder of the file, to which paths of pictures are relative.
        size: Width and height in pixels, if neither the file nor the pictures tell.
        is_allowed: Whether a picture may be opened to find its size. By default it must lie in
            `folder`.

    Returns:
        The views in the file's order.

    Raises:
        MissingSizeError: The size of a picture is unknown.
        ValueError: An entry is missing or invalid. The message names the frame and the entry.
    """
    views = []
    is_allowed = is_allowed or (lambda path: is_inside(path, [folder]))
    frames = content.get("frames")
    if not isinstance(frames, list):
        raise ValueError(f"frames is {shorten(frames)}; expected a list")
    for number, frame in enumerate(frames):
        if not isinstance(frame, dict):
            raise ValueError(f"frame {number} is {shorten(frame)}; expected an object")
        entry = {key: value for key, value in {**content, **frame}.items() if value is not None}
        try:
            views.append(_read_frame(entry, folder, size, is_allowed))
        except MissingSizeError:
            raise
        except ValueError as error:
            raise ValueError(f"frame {number}: {error}") from None
    return views


def _read_frame(
    entry: dict[str, Any], folder: Path, size: tuple[int, int] | None, is_allowed: IsAllowed
) -> View:
    """Read one frame. Entries of the file hold for all frames that lack them."""
    width, height = _frame_size(entry, folder, size, is_allowed)
    focal = _focal_lengths(entry, width, height)
    center = (
        to_number(entry.get("cx", width / 2), "cx"),
        to_number(entry.get("cy", height / 2), "cy"),
    )
    lens = tuple(to_number(entry.get(key, 0.0), key) for key in LENS)
    model = "a fisheye" if entry.get("is_fisheye") else str(entry.get("camera_model", ""))[:60]
    matrix = _to_camera(entry.get("transform_matrix"), "transform_matrix")
    return View(matrix, focal, center, (width, height), _picture_name(entry), lens, model)


def _focal_lengths(entry: dict[str, Any], width: int, height: int) -> tuple[float, float]:
    """Return the focal lengths in x and y, in pixels."""
    if "fl_x" in entry or "fl_y" in entry:
        x = entry.get("fl_x", entry.get("fl_y"))
        y = entry.get("fl_y", x)
        return to_number(x, "fl_x", MIN_FOCAL), to_number(y, "fl_y", MIN_FOCAL)
    angles = [entry.get(key) for key in ("camera_angle_x", "camera_angle_y")]
    focals = [
        side / 2 / math.tan(to_number(angle, key, MIN_ANGLE, math.pi - MIN_ANGLE) / 2)
        for key, angle, side in zip(
            ("camera_angle_x", "camera_angle_y"), angles, (width, height), strict=True
        )
        if angle is not None
    ]
    if not focals:
        raise ValueError("it has neither fl_x nor camera_angle_x")
    return focals[0], focals[-1]


def _picture_name(entry: dict[str, Any]) -> str:
    """Return the path of the picture as the file states it, or an empty text."""
    name = entry.get("file_path", "")
    if not isinstance(name, str):
        raise ValueError(f"file_path is {shorten(name)}; expected text")
    check_name(name, "file_path")
    return name


def _to_camera(matrix: Any, field: str) -> np.ndarray:
    """Convert camera to world with OpenGL axes to world to camera with OpenCV axes."""
    try:
        values = np.array(matrix, dtype=np.float64)
        if values.ndim == 1 and values.size in (12, 16):
            values = values.reshape(-1, 4)
        if values.shape not in ((3, 4), (4, 4)):
            raise TypeError(values.shape)
    except PARSE_ERRORS:
        raise ValueError(
            f"{field} is {shorten(matrix)}; expected 3 or 4 rows of 4 numbers"
        ) from None
    square = to_square(values[None], field)[0]
    if not (np.abs(square) <= MAX_NUMBER).all():
        raise ValueError(f"{field} has a number that is NaN, infinite or too large")
    if abs(np.linalg.det(square)) < MIN_DETERMINANT:
        raise ValueError(f"{field} cannot be inverted")
    return np.linalg.inv(square @ OPENGL)


def _frame_size(
    entry: dict[str, Any],
    folder: Path,
    size: tuple[int, int] | None,
    is_allowed: IsAllowed,
) -> tuple[int, int]:
    """Return the size in the entry, else the stored size of the picture, else `size`."""
    if "w" in entry and "h" in entry:
        width, height = (to_number(entry[key], key, 1, MAX_SIDE) for key in ("w", "h"))
        return int(width), int(height)
    name = _picture_name(entry)
    path = folder / name
    outside = False
    for file in (path, *(Path(f"{path}{suffix}") for suffix in PHOTO_SUFFIXES)):
        if not is_file(file):
            continue
        if is_allowed(file):
            return picture_size(file, upright=False)
        outside = True
    if size is None:
        missing = " and ".join(key for key in ("w", "h") if key not in entry)
        picture = f"its picture {str(path)!r} is not there"
        if outside:
            picture = f"its picture {name!r} lies outside of the dataset's folder and is not read"
        elif not name:
            picture = "it names no picture"
        raise MissingSizeError(f"it has no {missing}, and {picture} to tell the size")
    return size


def read_camera_path(content: dict[str, Any]) -> list[View]:
    """Read a camera_path.json as nerfstudio's viewer exports it.

    Args:
        content: The parsed file. `fov` is the vertical field of view in degrees.

    Returns:
        The views in the file's order.

    Raises:
        ValueError: An entry is missing or invalid, or the cameras are no pinholes.
    """
    width, height = (
        int(to_number(content.get(key), key, 1, MAX_SIDE))
        for key in ("render_width", "render_height")
    )
    kind = content.get("camera_type") or "perspective"
    if str(kind).lower() != "perspective":
        raise ValueError(f"camera_type is {shorten(kind)}; only perspective cameras are known")
    cameras = content.get("camera_path")
    if not isinstance(cameras, list):
        raise ValueError(f"camera_path is {shorten(cameras)}; expected a list")
    views = []
    for number, camera in enumerate(cameras):
        if not isinstance(camera, dict):
            raise ValueError(f"camera {number} is {shorten(camera)}; expected an object")
        angle = camera.get("fov")
        angle = content.get("default_fov") if angle is None else angle
        try:
            degrees = to_number(angle, "fov", math.degrees(MIN_ANGLE), 180 - MIN_ANGLE)
            matrix = _to_camera(camera.get("camera_to_world"), "camera_to_world")
        except ValueError as error:
            raise ValueError(f"camera {number}: {error}") from None
        focal = height / 2 / math.tan(math.radians(degrees) / 2)
        views.append(View(matrix, (focal, focal), (width / 2, height / 2), (width, height)))
    return views
