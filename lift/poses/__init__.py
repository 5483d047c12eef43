"""Where frames were really taken, and what was seen there."""

from abc import ABC, abstractmethod

from lift.registry import Registry
from lift.types import Cameras, Frames, Reconstruction, Trajectory


class PoseEstimator(ABC):
    """Reconstructs cameras, depth and a point cloud from frames, in the frame and scale of the plan.

    A constructor may ask for (keyword-only): `estimator` (DepthEstimator), `depth` (Depth of the input picture), `device`,
    `agree` (whether the prior vouches that frames show one scene from just the cameras asked for).
    """

    @abstractmethod
    def __call__(self, frames: Frames, trajectory: Trajectory) -> Reconstruction:
        """trajectory: what was asked for, a hint. Camera 0 of the result is the trajectory's start, exactly."""


def check_fit(frames: Frames, plan: Cameras) -> None:
    """Raises ValueError unless there is a picture of every planned camera, of its size."""
    if len(frames) != len(plan):
        raise ValueError(f"{len(frames)} frames do not fit a trajectory of {len(plan)}")
    if tuple(frames.images.shape[1:3]) != (plan.height, plan.width):
        raise ValueError(f"frames are {tuple(frames.images.shape[1:3])} pixels, the plan's cameras {(plan.height, plan.width)}")


poses: Registry[PoseEstimator] = Registry("pose")
