"""Contract of pose estimators."""

import torch

from lift.contracts.samples import CAMERA, sample_picture, tilted_depth
from lift.contracts.subject import Subject, require
from lift.contracts.weights import lists_its_published_weights
from lift.depths import depths
from lift.planners import planners
from lift.stages.checks import check_reconstruction
from lift.types import Frames, Reconstruction

_COUNT = 4


def _reconstruct(subject: Subject, with_depth: bool) -> Reconstruction:
    """Estimate the cameras of equal frames, and check the result."""
    depth = tilted_depth()
    trajectory = planners.build({"name": "single"})(CAMERA, depth, _COUNT - 1)
    images = sample_picture()[None].repeat(_COUNT, 1, 1, 1)
    frames = Frames(images, depth.depth.repeat(_COUNT, 1, 1) if with_depth else None)
    pose = subject.build(
        depth=depth,
        estimator=depths.build({"name": "ramp"}, camera=CAMERA),
        multiview_consistent=False,
        focal_known=False,
        device=torch.device("cpu"),
    )
    result = check_reconstruction(pose, pose(frames, trajectory), frames, trajectory)
    require(
        result.cameras.world_to_camera[0].equal(CAMERA.world_to_camera[0]),
        "the pose of camera 0 is not exactly that of the trajectory's start",
    )
    require(bool(result.confidence[0].any()), "the input has confidence 0 everywhere")
    return result


def reconstructs_frames_without_depth(subject: Subject) -> None:
    """Keep the input's pose, and return all frames, if frames have no depth.

    Args:
        subject: The pose estimator.
    """
    _reconstruct(subject, with_depth=False)


def reconstructs_frames_with_depth(subject: Subject) -> None:
    """Keep the input's pose, and return all frames, if frames have depth.

    Args:
        subject: The pose estimator.
    """
    _reconstruct(subject, with_depth=True)


CHECKS = (
    reconstructs_frames_without_depth,
    reconstructs_frames_with_depth,
    lists_its_published_weights,
)
"""The checks, in their order."""
