"""Read and write nerfstudio's transforms.json, and read its camera_path.json."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lift.io.image import picture_size
from lift.io.views import LENS, OPENGL, MissingSizeError, View, to_double, to_square
from lift.types import Cameras


def write_transforms(path: Path, cameras: Cameras, names: Sequence[str]) -> None:
    """Write transforms.json: camera to world with OpenGL axes, intrinsics with every frame.

    Reading the file restores the cameras to 1e-6 of their distance from the world's origin.

    Args:
        path: The file.
        cameras: The views.
        names: Path of each view's picture relative to the file, or empty.
    """
    to_world = np.linalg.inv(to_double(cameras.world_to_camera)) @ OPENGL
    frames = [
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
    Path(path).write_text(
        json.dumps({"camera_model": "OPENCV", "frames": frames}, indent=1) + "\n", encoding="utf-8"
    )


def read_transforms(
    content: dict[str, Any], folder: Path, size: tuple[int, int] | None
) -> list[View]:
    """Read the frames of a transforms.json, also those of NeRF's synthetic scenes.

    Args:
        content: The parsed file.
        folder: Folder of the file, to which paths of pictures are relative.
        size: Width and height in pixels, if neither the file nor the pictures tell.

    Returns:
        The views in the file's order.

    Raises:
        MissingSizeError: The size of a picture is unknown.
        KeyError: An entry is missing.
    """
    views = []
    for frame in content["frames"]:
        entry = {key: value for key, value in {**content, **frame}.items() if value is not None}
        width, height = _frame_size(entry, folder, size)
        if "fl_x" in entry:
            focal = float(entry["fl_x"]), float(entry.get("fl_y", entry["fl_x"]))
        else:  # NeRF's synthetic scenes
            angle_focal = width / 2 / math.tan(entry["camera_angle_x"] / 2)
            focal = angle_focal, angle_focal
        center = float(entry.get("cx", width / 2)), float(entry.get("cy", height / 2))
        to_world = np.array(entry["transform_matrix"], dtype=np.float64)[None]
        lens = tuple(float(entry.get(key, 0.0)) for key in LENS)
        model = "a fisheye" if entry.get("is_fisheye") else str(entry.get("camera_model", ""))
        matrix = np.linalg.inv(to_square(to_world)[0] @ OPENGL)
        name = str(entry.get("file_path", ""))
        views.append(View(matrix, focal, center, (width, height), name, lens, model))
    return views


def _frame_size(
    entry: dict[str, Any], folder: Path, size: tuple[int, int] | None
) -> tuple[int, int]:
    """Return the size in the entry, else the stored size of the picture, else `size`."""
    if "w" in entry and "h" in entry:
        return int(entry["w"]), int(entry["h"])
    path = folder / str(entry.get("file_path", ""))
    for file in (path, *(Path(f"{path}{suffix}") for suffix in (".png", ".jpg", ".jpeg"))):
        if file.is_file():
            return picture_size(file, upright=False)
    if size is None:
        missing = " and ".join(key for key in ("w", "h") if key not in entry)
        picture = (
            f"its picture {str(path)!r} is not there" if path != folder else "it names no picture"
        )
        raise MissingSizeError(f"it has no {missing}, and {picture} to tell the size")
    return size


def read_camera_path(content: dict[str, Any]) -> list[View]:
    """Read a camera_path.json as nerfstudio's viewer exports it.

    Args:
        content: The parsed file. `fov` is the vertical field of view in degrees.

    Returns:
        The views in the file's order.

    Raises:
        KeyError: An entry is missing.
    """
    width = int(content["render_width"])
    height = int(content["render_height"])
    views = []
    for camera in content["camera_path"]:
        to_world = np.array(camera["camera_to_world"], dtype=np.float64).reshape(4, 4)
        focal = height / 2 / math.tan(math.radians(float(camera["fov"])) / 2)
        matrix = np.linalg.inv(to_world @ OPENGL)
        views.append(View(matrix, (focal, focal), (width / 2, height / 2), (width, height)))
    return views
