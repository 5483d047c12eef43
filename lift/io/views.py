"""Represent one camera of a camera file, and stack such cameras."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from lift.io.parsing import MAX_NUMBER, MAX_SIDE, shorten
from lift.types import Cameras

LENS = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
"""OpenCV's lens distortion coefficients in its order.

k1 to k3 are radial, p1 and p2 tangential, k4 to k6 belong to the denominator of the radial term.
"""

MODELS = {
    0: ("SIMPLE_PINHOLE", 3, True),
    1: ("PINHOLE", 4, False),
    2: ("SIMPLE_RADIAL", 4, True),
    3: ("RADIAL", 5, True),
    4: ("OPENCV", 8, False),
    6: ("FULL_OPENCV", 12, False),
}
"""COLMAP's pinhole models by number.

Each has a name, a number of parameters, and whether x and y share one focal length.
"""

PINHOLES = tuple(name for name, _, _ in MODELS.values())
"""Camera models that are a pinhole with or without OpenCV's lens distortion."""

OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
"""Converts between OpenCV axes and OpenGL axes: x right, y up, z back."""

MAX_PATH_BYTES = 1024
"""Largest length of the path of a picture in a file."""
MAX_NAME_BYTES = 255
"""Largest length of each part of such a path. File systems have this limit."""
_ROW_TOLERANCE = 1e-4
"""Largest difference of the last row of a matrix from 0, 0, 0, 1."""
_MAX_PIXEL_ASPECT = 100
"""Largest ratio of the focal lengths in x and y, or of y and x."""
_MAX_ROTATION_ERROR = 1e-3
"""Largest difference of a matrix entry from the nearest rotation."""


class CameraFileError(ValueError):
    """A camera file of a known format has an invalid entry."""


class MissingSizeError(CameraFileError):
    """A camera file does not state the size of its pictures, and no other source does."""


@dataclass(frozen=True)
class View:
    """One camera of a camera file."""

    world_to_camera: np.ndarray
    """Matrix [4 4] with OpenCV axes."""
    focal: tuple[float, float]
    """Focal lengths in x and y, in pixels."""
    center: tuple[float, float]
    """Principal point x and y, in pixels."""
    size: tuple[int, int]
    """Width and height in pixels as the file states them. The picture's own size may differ."""
    name: str = ""
    """Name of the picture, or empty."""
    lens: tuple[float, ...] = ()
    """OpenCV's k1 k2 p1 p2 k3 k4 k5 k6 as far as the file states them. The others are 0."""
    model: str = ""
    """Camera model as the file names it, or empty."""

    def __post_init__(self) -> None:
        check_name(self.name, "the name of a picture")
        for side, length in zip(("width", "height"), self.size, strict=True):
            if not 1 <= length <= MAX_SIDE:
                raise ValueError(
                    f"the {side} of {self.name or 'a picture'!r} is {shorten(length)} pixels; "
                    f"expected 1 to {MAX_SIDE}"
                )

    def resized(self, width: int, height: int) -> "View":
        """Scale the intrinsics to a picture of another size.

        Args:
            width: Width of the new picture in pixels.
            height: Height of the new picture in pixels.

        Returns:
            The camera at the same pose.
        """
        x = width / self.size[0]
        y = height / self.size[1]
        return replace(
            self,
            focal=(self.focal[0] * x, self.focal[1] * y),
            center=(self.center[0] * x, self.center[1] * y),
            size=(width, height),
        )


def stack_views(views: Sequence[View], name: str) -> Cameras:
    """Stack the views of a file, with exactly orthonormal rotations.

    Args:
        views: At least one view. All have one picture size.
        name: Name of the file in error messages.

    Returns:
        The cameras in the same order.

    Raises:
        ValueError: There is no view, sizes differ, a number is not finite, a focal length is not
            positive, or a matrix mirrors, scales or shears.
    """
    if not views:
        raise ValueError(f"{name!r} holds no cameras")
    if len(sizes := sorted({view.size for view in views})) > 1:
        listing = ", ".join(f"{width} x {height}" for width, height in sizes[:3])
        raise ValueError(
            f"{name!r} has cameras of several picture sizes ({listing}); a path has one"
        )
    matrices = np.stack([view.world_to_camera for view in views]).astype(np.float64)
    intrinsics = np.zeros((len(views), 3, 3))
    intrinsics[:, [0, 1], [0, 1]] = [view.focal for view in views]
    intrinsics[:, :2, 2] = [view.center for view in views]
    intrinsics[:, 2, 2] = 1
    if not (
        (np.abs(matrices) <= MAX_NUMBER).all()  # false for NaN, too
        and (np.abs(intrinsics) <= MAX_NUMBER).all()
        and (intrinsics[:, [0, 1], [0, 1]] >= 1 / MAX_NUMBER).all()
    ):
        raise ValueError(
            f"{name!r} has a camera that is not finite, or a focal length that is not positive"
        )
    ratios = intrinsics[:, 0, 0] / intrinsics[:, 1, 1]
    if ratios.max() > _MAX_PIXEL_ASPECT or ratios.min() < 1 / _MAX_PIXEL_ASPECT:
        raise ValueError(
            f"{name!r} has a camera whose focal lengths in x and y differ more than "
            f"{_MAX_PIXEL_ASPECT} times"
        )
    rotations = matrices[:, :3, :3]
    u, _, vt = np.linalg.svd(rotations)
    nearest = u @ vt
    errors = np.abs(nearest - rotations).max((1, 2))
    invalid = (errors > _MAX_ROTATION_ERROR) | (np.linalg.det(nearest) < 0)
    if invalid.any():
        raise ValueError(
            f"{name!r}: the matrix of camera {int(invalid.argmax())} is no rigid motion "
            "(it mirrors, scales or shears)"
        )
    matrices[:, :3, :3] = nearest
    width, height = sizes[0]
    return Cameras(
        torch.from_numpy(matrices).float(), torch.from_numpy(intrinsics).float(), width, height
    )


def check_name(name: str, field: str) -> None:
    """Check that a file system can hold the name of a picture, a path with slashes.

    Args:
        name: The name.
        field: Name of the entry in the message.

    Raises:
        ValueError: The name, or a part of it, is too long.
    """
    data = name.encode("utf-8", "surrogatepass")
    longest = max(len(part) for part in data.split(b"/"))
    if len(data) > MAX_PATH_BYTES or longest > MAX_NAME_BYTES:
        raise ValueError(
            f"{field} is {shorten(name)} of {len(data)} bytes; a path has at most "
            f"{MAX_PATH_BYTES}, each part of it {MAX_NAME_BYTES}"
        )


def to_square(matrices: np.ndarray, field: str = "a matrix") -> np.ndarray:
    """Complete matrices of rigid motions with their last row.

    Args:
        matrices: Array [n 3 4] or [n 4 4].
        field: Name of the entry in the message.

    Returns:
        Array [n 4 4].

    Raises:
        TypeError: The array has another shape.
        ValueError: The last row of a matrix [4 4] is not 0, 0, 0, 1.
    """
    if matrices.ndim != 3 or matrices.shape[1:] not in ((3, 4), (4, 4)):
        raise TypeError(f"matrices of shape {matrices.shape} are not [n 4 4]")
    rows = matrices[:, 3:].reshape(-1, 4)
    is_valid = (np.abs(rows - (0, 0, 0, 1)) <= _ROW_TOLERANCE).all(1)  # false for NaN, too
    if not is_valid.all():
        number = int(is_valid.argmin())
        which = f"{field} {number}" if len(rows) > 1 else field
        raise ValueError(f"{which} has the last row {rows[number].tolist()}; expected 0, 0, 0, 1")
    out = np.tile(np.eye(4), (len(matrices), 1, 1))
    out[:, :3] = matrices[:, :3]
    return out


def to_double(value: torch.Tensor) -> np.ndarray:
    """Convert a tensor to a float64 array.

    Args:
        value: Tensor on any device.

    Returns:
        The array on the CPU.
    """
    return value.detach().cpu().double().numpy()


def natural_key(name: str) -> list[tuple[int, str]]:
    """Build a sort key that puts picture 9 before picture 10.

    Args:
        name: Name to sort by.

    Returns:
        The key.
    """
    return [
        (int(part), "") if part.isdecimal() and len(part) <= 100 else (-1, part)
        for part in re.split(r"(\d+)", name)
    ]
