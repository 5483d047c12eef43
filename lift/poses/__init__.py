"""Camera poses, depth and points of frames: the slot `pose`."""

from abc import ABC, abstractmethod
from typing import Literal

from lift.depths import DepthEstimator
from lift.registry import Registry
from lift.types import Cameras, Frames, Reconstruction, Trajectory
from lift.weights import UsesWeights


class PoseEstimator(UsesWeights, ABC):
    """Estimates cameras, depth and a point cloud from frames, in the world of the plan.

    A constructor may take these keyword-only parameters from the pipeline:

    - `estimator` (DepthEstimator): estimates the depth of frames.
    - `depth` (Depth): depth of the input.
    - `device` (torch.device): device to compute on.
    - `multiview_consistent` (bool): whether the prior's frames show one scene from exactly the
      requested cameras.
    - `focal_known` (bool): whether the focal length is measured (EXIF, calibration or given
      cameras), not assumed.
    """

    @abstractmethod
    def __call__(self, frames: Frames, trajectory: Trajectory) -> Reconstruction:
        """Estimate cameras, depth and points.

        Args:
            frames: The frames, the input first.
            trajectory: One camera per frame. `trajectory.hint` says how far they can be used.

        Returns:
            The reconstruction. Its first pose is exactly that of the trajectory's start; the focal
            length may differ.
        """


def resolve_focal(
    focal: Literal["auto", "fixed", "shared", "per_frame"], focal_known: bool
) -> Literal["fixed", "shared", "per_frame"]:
    """Replace the setting `pose.focal=auto`.

    Args:
        focal: The setting.
        focal_known: Whether the input's focal length is measured, not assumed.

    Returns:
        `fixed` for a measured focal length, `shared` for an assumed one, else the setting.
    """
    if focal != "auto":
        return focal
    return "fixed" if focal_known else "shared"


def check_frames(frames: Frames, plan: Cameras) -> None:
    """Check that there is one frame per planned camera, of its size.

    Args:
        frames: The frames.
        plan: The planned cameras.

    Raises:
        ValueError: If the number or the size differs.
    """
    if len(frames) != len(plan):
        raise ValueError(f"{len(frames)} frames do not fit a trajectory of {len(plan)}")
    size = tuple(frames.images.shape[1:3])
    if size != (plan.height, plan.width):
        raise ValueError(
            f"frames are {size} pixels, the plan's cameras {(plan.height, plan.width)}"
        )


def require_estimator(pose: str, estimator: DepthEstimator | None) -> DepthEstimator:
    """Return the depth estimator that frames without depth need.

    Args:
        pose: Name of the pose estimator, for the message.
        estimator: Its depth estimator.

    Raises:
        ValueError: If there is none.
    """
    if estimator is None:
        raise ValueError(
            f"pose {pose!r} needs a depth estimator: "
            "the prior does not know the depth of its frames"
        )
    return estimator


def has_cameras(trajectory: Trajectory) -> bool:
    """Tell whether a trajectory's cameras are planned or measured, not placeholders.

    Args:
        trajectory: One camera per frame.

    Returns:
        Whether the cameras can be used.
    """
    return len(trajectory.cameras) == 1 or trajectory.hint in ("planned", "known")


def overlap_advice(trajectory: Trajectory) -> str:
    """Advise what to choose if frames have too little in common.

    Args:
        trajectory: One camera per frame.

    Returns:
        The end of an error message.
    """
    if has_cameras(trajectory):
        return "choose pose=planned"
    return "choose frames that overlap more, or another pose"


poses: Registry[PoseEstimator] = Registry("pose", PoseEstimator)
"""Registry of pose estimators."""
