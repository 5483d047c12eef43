"""Apply and undo lens distortion.

Cameras that come with a picture file describe its pixels as they are stored. COLMAP and the NeRF
tools ignore the EXIF orientation, so the picture is not rotated upright. It is rotated only if the
camera's aspect fits the upright picture and not the stored one.
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

from lift.io.image import picture_size, read_image
from lift.io.views import LENS
from lift.types import Cameras, Frames

_MAX_SAMPLES = 2_000_000
"""Largest number of samples in one step. It bounds the memory that a large photograph needs."""
_SQUARE_TOLERANCE = 0.02
"""Relative difference of the two focal lengths below which pixels count as square."""
_SEARCH_STEPS = 400
"""Number of pixel sizes in the search for the inner camera. Each is 2 % larger than the last."""
_ASPECT_TOLERANCE = 0.01
"""Relative difference of heights, besides one pixel, up to which two aspects count as equal."""


def distort(
    rays: Float[np.ndarray, "*ray 2"], lens: Sequence[float]
) -> Float[np.ndarray, "*ray 2"]:
    """Apply OpenCV's lens distortion to normalized image coordinates.

    Args:
        rays: Coordinates x/z and y/z, in focal lengths from the principal point.
        lens: OpenCV's k1 k2 p1 p2 k3 k4 k5 k6. Missing coefficients are 0.

    Returns:
        The distorted coordinates in the same unit.

    Reference:
        docs.opencv.org, "Camera Calibration and 3D Reconstruction".
    """
    k1, k2, p1, p2, k3, k4, k5, k6 = (*lens, *[0.0] * (len(LENS) - len(lens)))
    x = rays[..., 0]
    y = rays[..., 1]
    if not any(lens):
        return rays
    radius_squared = x * x + y * y
    radial = 1 + radius_squared * (
        k1 + radius_squared * (k2 + radius_squared * k3) if k2 or k3 else k1
    )
    if k4 or k5 or k6:
        radial /= 1 + radius_squared * (k4 + radius_squared * (k5 + radius_squared * k6))
    distorted_rays = rays * radial[..., None]
    if p1 or p2:
        distorted_rays[..., 0] += 2 * p1 * x * y + p2 * (radius_squared + 2 * x * x)
        distorted_rays[..., 1] += p1 * (radius_squared + 2 * y * y) + 2 * p2 * x * y
    return distorted_rays


def square_pixel_size(camera: Cameras) -> tuple[float, float]:
    """Compute the size of a camera's picture after its pixels are made square.

    Args:
        camera: One view.

    Returns:
        Width and height in pixels. The height is stretched if the two focal lengths differ.
    """
    stretch = float(camera.intrinsics[0, 0, 0] / camera.intrinsics[0, 1, 1])
    return float(camera.width), camera.height * (
        stretch if abs(stretch - 1) > _SQUARE_TOLERANCE else 1.0
    )


def inner_camera(
    camera: Cameras, lens: Sequence[float], size: tuple[int, int], name: str
) -> Cameras:
    """Find the widest pinhole camera whose view lies inside a photograph.

    Args:
        camera: The photograph's camera, one view.
        lens: The lens coefficients, as in `distort`.
        size: Width and height in pixels of the camera to find.
        name: Name of the photograph in error messages.

    Returns:
        A camera of that size at the same pose, with square pixels and the principal point at the
        centre of the picture.

    Raises:
        ValueError: The principal point lies outside of the photograph, so no such camera exists.
    """
    width = camera.width
    height = camera.height
    steps = np.linspace(-0.5, 0.5, 65)
    edges = np.concatenate([np.stack([steps, np.full(65, side)], -1) for side in (-0.5, 0.5)])
    border = np.concatenate([edges, edges[:, ::-1]]) * size

    def visible(pixels: np.ndarray) -> np.ndarray:
        """Whether the photograph shows the complete border, for each size of a pixel."""
        rays = pixels[:, None, None] * border
        with np.errstate(all="ignore"):  # nothing is visible where the denominator is 0
            coords = distort(rays, lens)
            outer_coords = distort(1.001 * rays, lens)
        # Beyond the turning point of the polynomial, the border would seem visible again.
        increasing = (outer_coords * outer_coords).sum(-1) > (coords * coords).sum(-1)
        pixel_coords = _pixels(coords, camera)
        return (
            increasing & (pixel_coords >= 0).all(-1) & (pixel_coords <= (width, height)).all(-1)
        ).all(-1)

    focal = float(camera.intrinsics[0, [0, 1], [0, 1]].min())
    widest = 4 * max(width, height) / focal / min(size)
    pixel_sizes = np.geomspace(widest / 1000, widest, _SEARCH_STEPS)
    limit = int(np.argmin(np.append(visible(pixel_sizes), False)))  # the first that is too wide
    if limit == 0:
        raise ValueError(
            f"{name}: the camera's principal point lies outside of its picture, or at its border"
        )
    small = pixel_sizes[limit - 1]
    large = pixel_sizes[min(limit, _SEARCH_STEPS - 1)]
    for _ in range(50):
        mean_size = (small + large) / 2
        if visible(np.array([mean_size]))[0]:
            small = mean_size
        else:
            large = mean_size
    intrinsics = torch.tensor(
        [[1 / small, 0, size[0] / 2], [0, 1 / small, size[1] / 2], [0, 0, 1]], dtype=torch.float64
    )
    return Cameras(camera.world_to_camera, intrinsics[None].to(camera.intrinsics), *size)


def undistort(
    image: UInt8[Tensor, "y x 3"], camera: Cameras, lens: Sequence[float], target: Cameras
) -> UInt8[Tensor, "height width 3"]:
    """Resample a photograph as a pinhole camera at the same pose would record it.

    Args:
        image: The photograph.
        camera: Its camera, one view, of any picture size.
        lens: The lens coefficients, as in `distort`.
        target: The pinhole camera, one view. Only its intrinsics and size are used.

    Returns:
        Means of the linearly interpolated photograph over the target's pixels. The edge is
        repeated beyond the photograph's border.
    """
    source = image.permute(2, 0, 1)[None].float()
    source_intrinsics = camera.intrinsics[0].double().numpy()
    target_intrinsics = target.intrinsics[0].double().numpy()
    full_size = (camera.width, camera.height)
    minification = (
        source_intrinsics[[0, 1], [0, 1]]
        / target_intrinsics[[0, 1], [0, 1]]
        / full_size
        * image.shape[1::-1]
    ).max()
    # Samples per pixel and axis, so that no pixel of the photograph is skipped.
    supersampling = max(1, math.ceil(minification - 1e-4))
    x = (
        (np.arange(supersampling * target.width) + 0.5) / supersampling - target_intrinsics[0, 2]
    ) / target_intrinsics[0, 0]
    rows = []
    strip_height = max(1, _MAX_SAMPLES // (supersampling * supersampling * target.width))
    for top in range(0, target.height, strip_height):
        bottom = min(top + strip_height, target.height)
        y = (
            (np.arange(supersampling * top, supersampling * bottom) + 0.5) / supersampling
            - target_intrinsics[1, 2]
        ) / target_intrinsics[1, 1]
        coords = _pixels(distort(np.stack(np.meshgrid(x, y), axis=-1), lens), camera)
        grid = torch.from_numpy(2 * coords / full_size - 1).float()[None]
        samples = grid_sample(source, grid, "bilinear", "border", align_corners=False)
        rows.append(
            samples.view(3, bottom - top, supersampling, target.width, supersampling).mean((2, 4))
        )
    return torch.cat(rows, 1).permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8)


def needs_rotation(path: Path, size: tuple[int, int]) -> bool:
    """Whether a picture must be rotated upright to fit its camera.

    Args:
        path: The picture file.
        size: Width and height of the camera's picture, of any scale.

    Returns:
        False if the stored pixels have the camera's aspect. True if only the upright picture
        has it.

    Raises:
        ValueError: Neither has the aspect, or the file is not a picture.
    """
    stored = picture_size(path, upright=False)
    upright = picture_size(path)
    if same_aspect(stored, size):
        return False
    if same_aspect(upright, size):
        return True
    raise ValueError(
        f"{path} is {upright[0]} x {upright[1]} pixels, its camera's picture {size[0]} x "
        f"{size[1]}; expected the same aspect"
    )


def same_aspect(picture: tuple[int, int], camera: tuple[int, int]) -> bool:
    """Whether two sizes have the same aspect up to rounding.

    Args:
        picture: Width and height of the picture in pixels.
        camera: Width and height of the camera's picture in pixels.

    Returns:
        True if the heights agree after the widths are made equal.
    """
    if min(camera) < 1:
        return False
    expected = picture[0] * camera[1] / camera[0]
    return abs(picture[1] - expected) <= 1 + _ASPECT_TOLERANCE * picture[1]


@dataclass(frozen=True)
class Photograph:
    """A picture file with its camera and lens."""

    path: Path
    """Picture file."""
    camera: Cameras
    """One view, of any picture size. The file's own size may differ."""
    lens: tuple[float, ...] = ()
    """The lens coefficients, as in `distort`."""
    upright: bool = True
    """Whether the camera describes the picture after its EXIF orientation is applied."""

    def __post_init__(self) -> None:
        if len(self.camera) != 1 or len(self.lens) > len(LENS):
            raise ValueError(
                f"{self.path} has {len(self.camera)} cameras and {len(self.lens)} coefficients of "
                f"its lens; expected 1 and at most {len(LENS)}"
            )

    def inner_camera(self, longer_side: int) -> Cameras:
        """Find the widest pinhole camera of the photograph's aspect whose view lies inside it.

        Args:
            longer_side: Length of the longer side in pixels.

        Returns:
            The camera, as `inner_camera` returns it.

        Raises:
            ValueError: There is none, or `longer_side` is less than 1.
        """
        if longer_side < 1:
            raise ValueError(f"the longer side is {longer_side}; choose at least 1 pixel")
        full_width, full_height = square_pixel_size(self.camera)
        if full_width >= full_height:
            size = (longer_side, max(1, round(longer_side * full_height / full_width)))
        else:
            size = (max(1, round(longer_side * full_width / full_height)), longer_side)
        return inner_camera(self.camera, self.lens, size, str(self.path))

    def resample(self, camera: Cameras) -> Frames:
        """Resample the photograph as a pinhole camera at its pose.

        Args:
            camera: The pinhole camera, one view.

        Returns:
            One frame without depth, as `undistort` computes it.

        Raises:
            ValueError: The camera has another pose.
        """
        pose = self.camera.world_to_camera
        camera_pose = camera.world_to_camera
        if len(camera) != 1 or not torch.allclose(
            camera_pose, pose.to(camera_pose), rtol=1e-4, atol=1e-4
        ):
            raise ValueError(
                f"{self.path} was taken from elsewhere: a photograph shows what one camera at its "
                "own pose sees"
            )
        image = read_image(self.path, self.upright)
        return Frames(undistort(image, self.camera, self.lens, camera)[None])


def _pixels(coords: Float[np.ndarray, "*ray 2"], camera: Cameras) -> Float[np.ndarray, "*ray 2"]:
    """Map normalized image coordinates to pixels."""
    intrinsics = camera.intrinsics[0].double().numpy()
    return coords * intrinsics[[0, 1], [0, 1]] + intrinsics[:2, 2]
