"""Poses of the viewer's camera, and its field of view in windows of any shape."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from lift.geometry import look_at
from lift.types import Cameras


@dataclass(frozen=True)
class Pose:
    """A camera that looks at a point. Vectors are float64 [3], in scene units in the world."""

    position: np.ndarray
    """Centre of the camera."""
    look_at: np.ndarray
    """The point that the camera looks at and orbits."""
    up: np.ndarray
    """Unit vector towards the upper edge of the picture, about which the camera turns."""

    @property
    def distance(self) -> float:
        """Distance of the point from the camera."""
        return float(np.linalg.norm(self.look_at - self.position))

    def is_close(self, other: "Pose", tolerance: float = 2e-3) -> bool:
        """Whether another pose is the same up to rounding.

        Args:
            other: The other pose.
            tolerance: Largest difference, as a fraction of `distance`.
        """
        allowed = tolerance * max(self.distance, other.distance)
        shift = max(
            np.abs(self.position - other.position).max(), np.abs(self.look_at - other.look_at).max()
        )
        return bool(shift <= allowed)

    def mix(self, other: "Pose", fraction: float) -> "Pose":
        """Return the pose at a fraction of the way to another one.

        Args:
            other: The pose at fraction 1.
            fraction: 0 to 1.
        """
        up = self.up + fraction * (other.up - self.up)
        return Pose(
            self.position + fraction * (other.position - self.position),
            self.look_at + fraction * (other.look_at - self.look_at),
            up / max(float(np.linalg.norm(up)), 1e-9),
        )


def pose_of(camera: Cameras, distance: float) -> Pose:
    """Return the pose of a camera.

    Args:
        camera: One view.
        distance: Distance of the point that it orbits, in scene units.
    """
    matrix = camera.world_to_camera[0].double().cpu().numpy()
    rotation = matrix[:3, :3]
    position = -rotation.T @ matrix[:3, 3]
    return Pose(position, position + distance * rotation[2], -rotation[1])


def camera_at(pose: Pose, like: Cameras, zoom: float = 1.0) -> Cameras:
    """Return a camera at a pose.

    Args:
        pose: The pose.
        like: One view with the intrinsics and the picture size.
        zoom: Multiplies the focal length, above 0.

    Returns:
        One view.
    """
    eye, target, up = (
        torch.from_numpy(value).double() for value in (pose.position, pose.look_at, pose.up)
    )
    matrix = look_at(eye, target, -up)[None].float()
    intrinsics = like.intrinsics[:1].clone()
    intrinsics[:, 0, 0] *= zoom
    intrinsics[:, 1, 1] *= zoom
    return replace(like[:1], world_to_camera=matrix, intrinsics=intrinsics)


def covering_fov(camera: Cameras, aspect: float, zoom: float = 1.0) -> float:
    """Return the vertical field of view at which a camera's picture just covers a window.

    A window that is wider than the picture shows its whole width, and a part of its height. So the
    window never shows what is beyond the borders of the picture.

    Args:
        camera: One view.
        aspect: Width of the window over its height.
        zoom: Multiplies the focal length, above 0.

    Returns:
        The angle in radians.
    """
    intrinsics = camera.intrinsics[0].double()
    half_width = camera.width / 2 / float(intrinsics[0, 0])
    half_height = camera.height / 2 / float(intrinsics[1, 1])
    return 2 * math.atan(min(half_height, half_width / aspect) / zoom)
