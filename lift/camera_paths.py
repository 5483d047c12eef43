"""Building blocks of planned motions: cameras on spheres about the scene's centre.

The input camera is at the origin and looks along z. The scene's centre is in front of it at the
typical depth.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from lift.geometry import look_at
from lift.types import Cameras

DIRECTIONS = {
    "right": (1.0, 0.0, 0.0),
    "left": (-1.0, 0.0, 0.0),
    "up": (0.0, 1.0, 0.0),
    "down": (0.0, -1.0, 0.0),
    "in": (0.0, 0.0, 1.0),
    "out": (0.0, 0.0, -1.0),
}
"""Unit steps of azimuth, elevation and nearness. The camera keeps looking at the scene's centre."""

MAX_ELEVATION = 80.0
"""Largest elevation in degrees. Above it an upright camera would spin about its axis."""


def frames_per_clip(num_frames: int | None, clip_length: int | None, default: int) -> int:
    """Choose the number of new frames per clip: the setting, the prior's length, or the default.

    Args:
        num_frames: The planner's setting `num_frames`. None: not set.
        clip_length: Length of the prior's clips. None: any.
        default: Used if both are None.

    Returns:
        Number of frames, at least 1.

    Raises:
        ValueError: If `num_frames` is below 1 or differs from `clip_length`.
    """
    if num_frames is not None and num_frames < 1:
        raise ValueError(f"planner.num_frames is {num_frames}; choose 1 or more")
    if num_frames is not None and clip_length is not None and num_frames != clip_length:
        raise ValueError(
            f"planner.num_frames is {num_frames}, but the prior makes clips of {clip_length}; "
            f"choose {clip_length} or leave it out"
        )
    return num_frames or clip_length or default


def motion_fractions(count: int) -> Float[Tensor, "frame"]:
    """Return even fractions of a motion: 1 / count to 1. The source frame's 0 is left out.

    Args:
        count: Number of frames.

    Returns:
        Fractions in (0, 1].
    """
    return torch.arange(1, count + 1) / count


def cameras_facing(camera: Cameras, eyes: Float[Tensor, "view 3"], center: float) -> Cameras:
    """Create upright cameras at `eyes` that look at (0, 0, center).

    Args:
        camera: Gives intrinsics and picture size, one view.
        eyes: Camera centres.
        center: Depth of the scene's centre.

    Returns:
        One camera per centre.
    """
    target = eyes.new_tensor([0.0, 0.0, center]).expand_as(eyes)
    down = eyes.new_tensor([0.0, 1.0, 0.0]).expand_as(eyes)
    count = len(eyes)
    return Cameras(
        look_at(eyes, target, down),
        camera.intrinsics.expand(count, 3, 3).clone(),
        camera.width,
        camera.height,
    )


def orbit_cameras(camera: Cameras, offsets: Float[Tensor, "view 3"], center: float) -> Cameras:
    """Create cameras on spheres about (0, 0, center) that look at it.

    Args:
        camera: Gives intrinsics and picture size, one view.
        offsets: Azimuth and elevation in degrees (right and up are positive). The third value is
            how much nearer to the centre than the input camera, as a fraction of `center`.
        center: Depth of the scene's centre.

    Returns:
        One camera per offset.

    Raises:
        ValueError: If the elevation exceeds `MAX_ELEVATION` or a camera is at or beyond the centre.
    """
    azimuth, elevation, nearness = offsets.to(camera.world_to_camera).unbind(-1)
    if float(elevation.abs().max()) > MAX_ELEVATION:
        raise ValueError(
            f"the planner climbs to {float(elevation.abs().max()):g} degrees; "
            f"choose at most {MAX_ELEVATION:g} in all"
        )
    if float(nearness.max()) >= 1:
        raise ValueError(
            f"the planner moves in by {float(nearness.max()):g} of the scene's typical depth; "
            "choose less than 1 in all"
        )
    azimuth = azimuth.deg2rad()
    elevation = elevation.deg2rad()
    radius = center * (1 - nearness)
    right = azimuth.sin() * elevation.cos()
    up = elevation.sin()
    back = azimuth.cos() * elevation.cos()
    eyes = torch.stack([radius * right, -radius * up, center - radius * back], dim=-1)
    return cameras_facing(camera, eyes, center)
