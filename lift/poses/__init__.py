"""Where frames were really taken, and what was seen there."""

from abc import ABC, abstractmethod
from typing import Literal

from lift.registry import Registry, check_ranges
from lift.types import Cameras, Frames, Reconstruction, Trajectory


class PoseEstimator(ABC):
    """Reconstructs cameras, depth and a point cloud from frames, in the frame and scale of the plan.

    A constructor may ask for (keyword-only): `estimator` (DepthEstimator), `depth` (Depth of the input picture), `device`,
    `agree` (whether the prior vouches that frames show one scene from just the cameras asked for),
    `focal_known` (whether the focal length was measured: EXIF, calibration or given cameras; else it is assumed).
    """

    @abstractmethod
    def __call__(self, frames: Frames, trajectory: Trajectory) -> Reconstruction:
        """trajectory: what was asked for, a hint. The pose of camera 0 of the result is that of the trajectory's start, exactly; its lens may be another."""


BOUNDS = {
    "least": (0, 1),
    "tolerance": (1e-6, 100),
    "most_points": (1, 10**9),
    "keypoints": (64, 10**6),
    "features": (64, 10**6),
    "exhaustive": (0, 10**6),
    "closures": (0, 10**6),
    "trust": (0, 10**6),
    "window": (2, 10**6),
}
"""Least and most that settings of estimators may be."""


def check_settings(**given: int | float) -> None:
    """Raises ValueError that names the value and what may be chosen, for the first that is out of BOUNDS."""
    check_ranges("pose", **{key: (value, *BOUNDS[key]) for key, value in given.items()})


def resolve_focal(
    focal: Literal["auto", "fixed", "shared", "each"], focal_known: bool
) -> Literal["fixed", "shared", "each"]:
    """What `pose.focal=auto` stands for.

    Args:
        focal: The setting.
        focal_known: Whether the input's focal length was measured rather than assumed.

    Returns:
        `fixed` for a measured focal length, `shared` for an assumed one; other settings as they are.
    """
    if focal != "auto":
        return focal
    return "fixed" if focal_known else "shared"


def check_fit(frames: Frames, plan: Cameras) -> None:
    """Raises ValueError unless there is a picture of every planned camera, of its size."""
    if len(frames) != len(plan):
        raise ValueError(f"{len(frames)} frames do not fit a trajectory of {len(plan)}")
    if tuple(frames.images.shape[1:3]) != (plan.height, plan.width):
        raise ValueError(
            f"frames are {tuple(frames.images.shape[1:3])} pixels, the plan's cameras {(plan.height, plan.width)}"
        )


def has_cameras(trajectory: Trajectory) -> bool:
    """Whether a trajectory's cameras are a plan or measured, not placeholders."""
    return len(trajectory.cameras) == 1 or trajectory.hint in ("planned", "known")


def advice(trajectory: Trajectory) -> str:
    """What to choose for frames that have too little in common to be placed."""
    if has_cameras(trajectory):
        return "choose pose=planned"
    return "choose frames that overlap more, or another pose"


poses: Registry[PoseEstimator] = Registry("pose", PoseEstimator)
