"""Lens distortion: where a lens puts a point, and pictures with the distortion undone.

Cameras that come with a picture file describe its pixels as they are stored. COLMAP and the NeRF
tools ignore the EXIF orientation, so such a picture is not turned upright. It is turned only if
its camera's aspect fits the upright picture and not the stored one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import grid_sample

from lift.io.cameras import LENS
from lift.io.image import picture_size, read_image
from lift.types import Cameras, Frames

_STRIP = 2_000_000
"""Samples taken at once. It bounds the memory that a large photograph takes."""
_UNEVEN = 0.02
"""Relative difference of the two focal lengths below which pixels count as square."""
_ZOOMS = 400
"""Number of focal lengths tried in the search for the inner camera; each is 2 % larger."""
_SAME_ASPECT = 0.01
"""Relative difference of heights, besides one pixel, up to which two aspects are the same."""


def distorted(
    rays: Float[np.ndarray, "*ray 2"], lens: Sequence[float]
) -> Float[np.ndarray, "*ray 2"]:
    """Apply OpenCV's lens distortion to normalised image coordinates.

    Args:
        rays: x/z and y/z, in focal lengths from the principal point.
        lens: OpenCV's k1 k2 p1 p2 k3 k4 k5 k6; missing ones are 0.

    Returns:
        The distorted coordinates, in the same unit.

    Reference:
        docs.opencv.org, "Camera Calibration and 3D Reconstruction".
    """
    k1, k2, p1, p2, k3, k4, k5, k6 = (*lens, *[0.0] * (len(LENS) - len(lens)))
    x, y = rays[..., 0], rays[..., 1]
    if not any(lens):
        return rays
    square = x * x + y * y
    radial = 1 + square * (k1 + square * (k2 + square * k3) if k2 or k3 else k1)
    if k4 or k5 or k6:
        radial /= 1 + square * (k4 + square * (k5 + square * k6))
    out = rays * radial[..., None]
    if p1 or p2:
        out[..., 0] += 2 * p1 * x * y + p2 * (square + 2 * x * x)
        out[..., 1] += p1 * (square + 2 * y * y) + 2 * p2 * x * y
    return out


def squared_size(camera: Cameras) -> tuple[float, float]:
    """Compute the size of a camera's picture after its pixels are made square.

    Args:
        camera: One view.

    Returns:
        Width and height in pixels; the height is stretched if the two focal lengths differ.
    """
    stretch = float(camera.intrinsics[0, 0, 0] / camera.intrinsics[0, 1, 1])
    return float(camera.width), camera.height * (stretch if abs(stretch - 1) > _UNEVEN else 1.0)


def inner_camera(
    camera: Cameras, lens: Sequence[float], size: tuple[int, int], name: str
) -> Cameras:
    """Find the widest pinhole camera that sees only what a photograph shows.

    Args:
        camera: The photograph's camera, one view.
        lens: The coefficients of its lens, as in `distorted`.
        size: Width and height in pixels of the camera to find.
        name: What error messages call the photograph.

    Returns:
        A camera of that size at the same pose, with square pixels and the principal point in
        the middle.

    Raises:
        ValueError: There is none, because the principal point lies outside of the photograph.
    """
    width, height = camera.width, camera.height
    along = np.linspace(-0.5, 0.5, 65)
    edges = np.concatenate([np.stack([along, np.full(65, side)], -1) for side in (-0.5, 0.5)])
    border = np.concatenate([edges, edges[:, ::-1]]) * size

    def visible(pixels: np.ndarray) -> np.ndarray:
        """Whether the photograph shows the whole border, for each size of a pixel."""
        rays = pixels[:, None, None] * border
        with np.errstate(all="ignore"):  # where a lens's denominator is 0, nothing is visible
            at, further = distorted(rays, lens), distorted(1.001 * rays, lens)
        # Past the angle where the polynomial turns back, the border would seem visible again.
        growing = (further * further).sum(-1) > (at * at).sum(-1)
        places = _pixels(at, camera)
        return (growing & (places >= 0).all(-1) & (places <= (width, height)).all(-1)).all(-1)

    focal = float(camera.intrinsics[0, [0, 1], [0, 1]].min())
    widest = 4 * max(width, height) / focal / min(size)
    tried = np.geomspace(widest / 1000, widest, _ZOOMS)
    last = int(np.argmin(np.append(visible(tried), False)))  # the first that sees too much
    if last == 0:
        raise ValueError(
            f"{name}: the camera's principal point lies outside of its picture, or at its very border"
        )
    small, large = tried[last - 1], tried[min(last, _ZOOMS - 1)]
    for _ in range(50):
        middle = (small + large) / 2
        small, large = (middle, large) if visible(np.array([middle]))[0] else (small, middle)
    intrinsics = torch.tensor(
        [[1 / small, 0, size[0] / 2], [0, 1 / small, size[1] / 2], [0, 0, 1]], dtype=torch.float64
    )
    return Cameras(camera.world_to_camera, intrinsics[None].to(camera.intrinsics), *size)


def undistorted(
    image: UInt8[Tensor, "y x 3"], camera: Cameras, lens: Sequence[float], target: Cameras
) -> UInt8[Tensor, "height width 3"]:
    """Resample a photograph as a pinhole camera at the same pose would have taken it.

    Args:
        image: The photograph.
        camera: Its camera, one view, of any picture size.
        lens: The coefficients of its lens, as in `distorted`.
        target: The pinhole camera, one view; only its intrinsics and size are used.

    Returns:
        Means over the target's pixels of the linearly interpolated photograph. Beyond the
        photograph's border its edge is repeated.
    """
    source = image.permute(2, 0, 1)[None].float()
    own, asked = (one.intrinsics[0].double().numpy() for one in (camera, target))
    full = (camera.width, camera.height)
    shrink = (own[[0, 1], [0, 1]] / asked[[0, 1], [0, 1]] / full * image.shape[1::-1]).max()
    fine = max(1, math.ceil(shrink - 1e-4))  # samples a pixel and axis, so that none is left out
    x = ((np.arange(fine * target.width) + 0.5) / fine - asked[0, 2]) / asked[0, 0]
    rows = []
    strip = max(1, _STRIP // (fine * fine * target.width))
    for top in range(0, target.height, strip):
        bottom = min(top + strip, target.height)
        y = ((np.arange(fine * top, fine * bottom) + 0.5) / fine - asked[1, 2]) / asked[1, 1]
        at = _pixels(distorted(np.stack(np.meshgrid(x, y), axis=-1), lens), camera)
        grid = torch.from_numpy(2 * at / full - 1).float()[None]
        found = grid_sample(source, grid, "bilinear", "border", align_corners=False)
        rows.append(found.view(3, bottom - top, fine, target.width, fine).mean((2, 4)))
    return torch.cat(rows, 1).permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8)


def needs_turning(path: Path, size: tuple[int, int]) -> bool:
    """Tell whether a picture has to be turned upright to fit its camera.

    Args:
        path: The picture file.
        size: Width and height of the camera's picture, of any scale.

    Returns:
        False if the pixels as stored have the camera's aspect; True if only the upright
        picture has it.

    Raises:
        ValueError: Neither has it, or the file is not a picture.
    """
    stored, upright = picture_size(path, upright=False), picture_size(path)
    if same_aspect(stored, size):
        return False
    if same_aspect(upright, size):
        return True
    raise ValueError(
        f"{path} is {upright[0]} x {upright[1]} pixels, its camera's picture {size[0]} x {size[1]}; "
        "expected the same aspect"
    )


def same_aspect(picture: tuple[int, int], camera: tuple[int, int]) -> bool:
    """Tell whether two sizes (width, height) have the same aspect, but for rounding."""
    if min(camera) < 1:
        return False
    expected = picture[0] * camera[1] / camera[0]
    return abs(picture[1] - expected) <= 1 + _SAME_ASPECT * picture[1]


@dataclass(frozen=True)
class Photograph:
    """A picture file with its camera and lens."""

    path: Path
    camera: Cameras
    """One view, of any picture size; the file's own may be another."""
    lens: tuple[float, ...] = ()
    """The coefficients of the lens, as in `distorted`."""
    upright: bool = True
    """Whether the camera describes the picture as its EXIF orientation turns it."""

    def __post_init__(self) -> None:
        if len(self.camera) != 1 or len(self.lens) > len(LENS):
            raise ValueError(
                f"{self.path} has {len(self.camera)} cameras and {len(self.lens)} coefficients of "
                f"its lens; expected 1 and at most {len(LENS)}"
            )

    def inner(self, longer: int) -> Cameras:
        """Find the widest pinhole camera of the photograph's aspect that sees only what it shows.

        Args:
            longer: Pixels of the longer side.

        Returns:
            The camera, as `inner_camera` returns it.

        Raises:
            ValueError: There is none, or `longer` is less than 1.
        """
        if longer < 1:
            raise ValueError(f"the longer side is {longer}; choose at least 1 pixel")
        across, down = squared_size(self.camera)
        if across >= down:
            size = (longer, max(1, round(longer * down / across)))
        else:
            size = (max(1, round(longer * across / down)), longer)
        return inner_camera(self.camera, self.lens, size, str(self.path))

    def look(self, camera: Cameras) -> Frames:
        """Show what a pinhole camera at the photograph's pose takes.

        Args:
            camera: The pinhole camera, one view.

        Returns:
            One frame without depth, as `undistorted` makes it.

        Raises:
            ValueError: The camera has another pose.
        """
        own = self.camera.world_to_camera
        other = camera.world_to_camera
        if len(camera) != 1 or not torch.allclose(other, own.to(other), rtol=1e-4, atol=1e-4):
            raise ValueError(
                f"{self.path} was taken from elsewhere: a photograph shows what one camera at its "
                "own pose sees"
            )
        image = read_image(self.path, self.upright)
        return Frames(undistorted(image, self.camera, self.lens, camera)[None])


def _pixels(at: Float[np.ndarray, "*ray 2"], camera: Cameras) -> Float[np.ndarray, "*ray 2"]:
    """Map normalised image coordinates to pixels."""
    own = camera.intrinsics[0].double().numpy()
    return at * own[[0, 1], [0, 1]] + own[:2, 2]
