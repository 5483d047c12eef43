"""What the planners' motions are made of: cameras on spheres about the scene's centre, and the length of a clip.

The input camera sits at the origin and looks along z; the scene's centre lies before it at the typical depth.
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
"""Where the camera goes: steps of azimuth, elevation and nearness. It looks at the scene's centre all the while."""

STEEPEST = 80.0
"""Elevation in degrees beyond which a camera that keeps upright would spin about its axis."""


def num_frames(frames: int | None, clip_length: int | None, default: int) -> int:
    """New frames a clip: the planner's setting, the prior's length, or the default. Raises ValueError where the two differ."""
    if frames is not None and frames < 1:
        raise ValueError(f"planner.frames is {frames}; choose 1 or more")
    if frames is not None and clip_length is not None and frames != clip_length:
        raise ValueError(
            f"planner.frames is {frames}, but the prior makes clips of {clip_length}; choose {clip_length} or leave it out"
        )
    return frames or clip_length or default


def steps(count: int) -> Float[Tensor, "frame"]:
    """Shares of a motion at even steps; the last is 1, the source's 0 is left out."""
    return torch.arange(1, count + 1) / count


def facing(camera: Cameras, eyes: Float[Tensor, "view 3"], center: float) -> Cameras:
    """Upright cameras at `eyes` that look at (0, 0, center), with the optics of `camera`."""
    target = eyes.new_tensor([0.0, 0.0, center]).expand_as(eyes)
    down = eyes.new_tensor([0.0, 1.0, 0.0]).expand_as(eyes)
    count = len(eyes)
    return Cameras(
        look_at(eyes, target, down),
        camera.intrinsics.expand(count, 3, 3).clone(),
        camera.width,
        camera.height,
    )


def around(camera: Cameras, places: Float[Tensor, "view 3"], center: float) -> Cameras:
    """Cameras on spheres about (0, 0, center) that look at it.

    places: azimuth and elevation in degrees (right and up are positive), and how much nearer to the centre than the input camera, as
    a share of `center`. Raises ValueError above `STEEPEST` degrees of elevation and at or beyond the centre.
    """
    azimuth, elevation, nearness = places.to(camera.world_to_camera).unbind(-1)
    if float(elevation.abs().max()) > STEEPEST:
        raise ValueError(
            f"the planner climbs to {float(elevation.abs().max()):g} degrees; choose at most {STEEPEST:g} in all"
        )
    if float(nearness.max()) >= 1:
        raise ValueError(
            f"the planner moves in by {float(nearness.max()):g} of the scene's typical depth; choose less than 1 in all"
        )
    azimuth, elevation, radius = azimuth.deg2rad(), elevation.deg2rad(), center * (1 - nearness)
    right, up, back = (
        azimuth.sin() * elevation.cos(),
        elevation.sin(),
        azimuth.cos() * elevation.cos(),
    )
    return facing(
        camera, torch.stack([radius * right, -radius * up, center - radius * back], dim=-1), center
    )
