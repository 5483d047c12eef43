"""The values that structure from motion works on: observations, cameras and points."""

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lift.types import TensorDataclass

MIN_DEPTH = 1e-6
"""Smallest z-depth of a point in front of a camera, in units of the world."""
MIN_FRAME_POINTS = 16
"""Smallest number of points that a frame's pose may rest on."""


@dataclass(frozen=True)
class Observations(TensorDataclass):
    """Image positions of points: one item for each point and frame that shows it."""

    frame: Int[Tensor, "observation"]
    """Index of the frame."""
    point: Int[Tensor, "observation"]
    """Index of the point."""
    pixel: Float[Tensor, "observation 2"]
    """Position (x, y) in pixels."""
    weight: Float[Tensor, "observation"]
    """Weight in [0, 1]."""
    log_depth: Float[Tensor, "observation"] | None = None
    """Logarithm of the measured z-depth, up to one factor per frame; NaN if there is none."""


@dataclass(frozen=True)
class SfmState:
    """Cameras and points that structure from motion estimates."""

    rotation: Float[Tensor, "frame 3 3"]
    """Rotation of `world_to_camera`."""
    translation: Float[Tensor, "frame 3"]
    """Translation of `world_to_camera`."""
    log_focal: Float[Tensor, "frame"]
    """Logarithm of the focal length in pixels."""
    principal_point: Float[Tensor, "frame 2"]
    """Principal point (x, y) in pixels."""
    log_scale: Float[Tensor, "frame"]
    """Logarithm of the scale of the frame's measured depth."""
    points: Float[Tensor, "point 3"]
    """Points in the world."""
    registered: Bool[Tensor, "frame"]
    """Whether the frame has a pose."""

    def reproject(
        self, observations: Observations
    ) -> tuple[Float[Tensor, "observation 3"], Float[Tensor, "observation 2"]]:
        """Project the observed points into their frames.

        Args:
            observations: Observations of this state's frames and points.

        Returns:
            The points in camera coordinates, and the reprojection errors in pixels.
        """
        rotation = self.rotation[observations.frame]
        translation = self.translation[observations.frame]
        local = (rotation @ self.points[observations.point][..., None])[..., 0] + translation
        focal = self.log_focal.exp()[observations.frame, None]
        projected = focal * local[:, :2] / local[:, 2:].clamp(min=MIN_DEPTH)
        pixel = projected + self.principal_point[observations.frame]
        return local, pixel - observations.pixel

    def to(self, device: torch.device | str) -> "SfmState":
        """Move all tensors.

        Args:
            device: Device to move to.

        Returns:
            The state on that device.
        """
        return replace(self, **{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    @property
    def centers(self) -> Float[Tensor, "frame 3"]:
        """Camera centers in the world."""
        return -(self.rotation.mT @ self.translation[..., None])[..., 0]

    def rays(
        self, frame: Int[Tensor, "ray"] | int, pixel: Float[Tensor, "ray 2"]
    ) -> Float[Tensor, "ray 3"]:
        """Unproject pixels to a z-depth of 1.

        Args:
            frame: Index of each pixel's frame, or of the frame of all pixels.
            pixel: Positions (x, y) in pixels.

        Returns:
            Points (x, y, 1) in camera coordinates.
        """
        offset = pixel - self.principal_point[frame]
        local = offset / self.log_focal[frame].exp()[..., None]
        return torch.cat([local, torch.ones_like(pixel[:, :1])], -1)

    def camera_model(self, frame: int) -> dict[str, Any]:
        """Describe a frame's camera for poselib.

        Args:
            frame: Index of the frame.

        Returns:
            COLMAP's camera model with its size in pixels and its parameters.
        """
        focal = float(self.log_focal[frame].exp())
        x, y = self.principal_point[frame].tolist()
        return {
            "model": "SIMPLE_PINHOLE",
            "width": round(2 * x),
            "height": round(2 * y),
            "params": [focal, x, y],
        }


@dataclass(frozen=True)
class PosePrior:
    """Camera poses that bundle adjustment is pulled towards."""

    rotation: Float[Tensor, "frame 3 3"]
    """Rotation of `world_to_camera`."""
    translation: Float[Tensor, "frame 3"]
    """Translation of `world_to_camera`."""
    rotation_sigma: float
    """Standard deviation of the rotation in radians."""
    translation_sigma: float
    """Standard deviation of the translation in units of the world."""
