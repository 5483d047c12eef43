"""Building blocks of planned motions: cameras on spheres about the scene's centre.

The input camera is at the origin and looks along z. The scene's centre is in front of it at the
typical depth.
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from lift.geometry import look_at, rigid, rotation_from_vector, rotation_to_quat
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


def opposite(direction: str) -> str:
    """Return the direction that undoes another one.

    Args:
        direction: A key of `DIRECTIONS`.
    """
    step = tuple(-value for value in DIRECTIONS[direction])
    return next(name for name, value in DIRECTIONS.items() if value == step)


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


def scale_motion(camera: Cameras, cameras: Cameras, factor: float) -> Cameras:
    """Move along the screw motion from one camera to each of others, by a fraction of it.

    An orbit about a point remains an orbit about that point, by a smaller angle.

    Args:
        camera: The camera to start from, one view.
        cameras: The cameras to move towards, at most half a turn away.
        factor: Fraction of each motion. 1 returns the cameras up to rounding.

    Returns:
        One camera for each of `cameras`, with its intrinsics.
    """
    start = camera.world_to_camera.double()
    motion = cameras.world_to_camera.double() @ torch.linalg.inv(start)
    quats = rotation_to_quat(motion[:, :3, :3])
    sine = quats[:, 1:].norm(dim=-1, keepdim=True)
    turn = quats[:, 1:] / sine.clamp(min=1e-12) * 2 * torch.atan2(sine, quats[:, :1])
    velocity = torch.linalg.solve(_screw_matrix(turn), motion[:, :3, 3:])
    translation = factor * (_screw_matrix(factor * turn) @ velocity)[..., 0]
    moved = rigid(rotation_from_vector(factor * turn), translation) @ start
    return replace(cameras, world_to_camera=moved.to(cameras.world_to_camera))


def _screw_matrix(turn: Float[Tensor, "view 3"]) -> Float[Tensor, "view 3 3"]:
    """Return the matrix from the velocity of a screw motion to its translation.

    It is the integral of the rotations on the way, the left Jacobian of SO(3).
    """
    angle = turn.norm(dim=-1)[:, None, None]
    small = angle < 1e-4
    safe = torch.where(small, torch.ones_like(angle), angle)
    first = torch.where(small, 0.5 - angle**2 / 24, (1 - safe.cos()) / safe**2)
    second = torch.where(small, 1 / 6 - angle**2 / 120, (safe - safe.sin()) / safe**3)
    x, y, z = turn.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    return torch.eye(3, dtype=turn.dtype) + first * cross + second * cross @ cross
