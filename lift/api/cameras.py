"""Cameras that a user gives: values or files, for pictures of any size."""

import os
from pathlib import Path
from typing import TypeAlias

from lift.io.cameras import read_cameras
from lift.types import Cameras

CamerasLike: TypeAlias = Cameras | str | os.PathLike[str]
"""Cameras, or the file or folder that `lift.io.cameras.read_cameras` reads."""

MIN_SIZE = 16
"""Smallest longer side of a render in pixels."""


def as_cameras(cameras: CamerasLike, size: int | None = None) -> Cameras:
    """Read cameras, for pictures of a size.

    Args:
        cameras: Cameras or their file.
        size: Longer side of the pictures in pixels, at least 16. None: that of the cameras.

    Returns:
        The cameras.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The size is too small, or the file has no cameras.
    """
    if not isinstance(cameras, Cameras):
        cameras = read_cameras(Path(cameras))
    if size is None:
        return cameras
    if size < MIN_SIZE:
        raise ValueError(f"size is {size}; choose at least {MIN_SIZE} pixels")
    factor = size / max(cameras.width, cameras.height)
    return cameras.resized(round(cameras.width * factor), round(cameras.height * factor))
