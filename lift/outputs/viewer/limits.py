"""Keep the viewer's camera where the frames observed the scene."""

import math

import numpy as np

from lift.outputs.view_region import ViewRegion
from lift.outputs.viewer.poses import Pose
from lift.types import Cameras

PAN = 0.08
"""Largest distance of the orbited point from the region's target, as a fraction of the distance
of the input camera."""

ANGLE_SLACK = 0.5
"""Excess over a limit in degrees that is not corrected."""

LENGTH_SLACK = 0.01
"""Excess over a limit as a fraction of lengths that is not corrected."""


class CameraLimits:
    """The region of a `ViewRegion`, for cameras that look at a point near its target.

    Args:
        region: The region.
        input_camera: The input camera, one view.
    """

    def __init__(self, region: ViewRegion, input_camera: Cameras) -> None:
        rotation = input_camera.world_to_camera[0, :3, :3].double().cpu().numpy()
        self.region = region
        self._rotation = rotation
        self._target = np.array(region.target, dtype=np.float64)

    @property
    def orbit_distance(self) -> tuple[float, float]:
        """Smallest and largest distance from the orbited point, in scene units."""
        return self.region.distance

    @property
    def pan(self) -> float:
        """Largest distance of the orbited point from the region's target, in scene units."""
        return PAN * self.region.input_distance

    def clamp(self, pose: Pose) -> Pose:
        """Return the nearest pose within the limits.

        Args:
            pose: Any pose.

        Returns:
            The same object if it is within the limits. Else an upright pose.
        """
        pan = pose.look_at - self._target
        largest = self.pan
        length = float(np.linalg.norm(pan))
        allowed_pan = pan if length <= largest * (1 + LENGTH_SLACK) else pan * (largest / length)
        azimuth, elevation, distance = self._angles(pose.position - pan - self._target)
        wanted = (
            _clamp(azimuth, self.region.azimuth, ANGLE_SLACK),
            _clamp(elevation, self.region.elevation, ANGLE_SLACK),
            _clamp(distance, self.region.distance, LENGTH_SLACK * distance),
        )
        if allowed_pan is pan and wanted == (azimuth, elevation, distance):
            return pose
        point = self._target + allowed_pan
        return Pose(point + self._offset(*wanted), point, -self._rotation[1])

    def _angles(self, offset: np.ndarray) -> tuple[float, float, float]:
        """Return azimuth and elevation in degrees and the distance of a camera from its point."""
        x, y, z = self._rotation @ offset
        distance = math.sqrt(x * x + y * y + z * z)
        elevation = math.degrees(math.asin(max(-1.0, min(1.0, -y / max(distance, 1e-12)))))
        return math.degrees(math.atan2(x, -z)), elevation, distance

    def _offset(self, azimuth: float, elevation: float, distance: float) -> np.ndarray:
        """Return the vector from the orbited point to the camera."""
        turn = math.radians(azimuth)
        climb = math.radians(elevation)
        local = (
            math.sin(turn) * math.cos(climb),
            -math.sin(climb),
            -math.cos(turn) * math.cos(climb),
        )
        return self._rotation.T @ (distance * np.array(local))


def _clamp(value: float, limits: tuple[float, float], slack: float) -> float:
    """Return the nearest value within limits; the value itself if it is at most `slack` beyond."""
    low, high = limits
    if low - slack <= value <= high + slack:
        return value
    return min(max(value, low), high)
