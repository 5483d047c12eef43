"""Where frames were really taken, and what was seen there."""

from abc import ABC, abstractmethod

from lift.registry import Registry
from lift.types import Frames, Reconstruction, Trajectory


class PoseEstimator(ABC):
    """Reconstructs cameras, depth and a point cloud from frames, in the frame and scale of the plan.

    A constructor may ask for (keyword-only): `estimator` (DepthEstimator), `depth` (Depth of the input picture), `device`,
    `agree` (whether the prior vouches that frames show one scene from just the cameras asked for).
    """

    @abstractmethod
    def __call__(self, frames: Frames, trajectory: Trajectory) -> Reconstruction:
        """trajectory: what was asked for, a hint. Camera 0 of the result is the trajectory's start, exactly."""


poses: Registry[PoseEstimator] = Registry("pose")
