"""From matches to a reconstruction: cameras, depth of every frame, confidence and a point cloud.

Matches are chained into tracks (`lift.poses.sfm.tracks`). Incremental mapping registers frames
(`lift.poses.sfm.registration`). The result is moved to the plan (`lift.poses.sfm.alignment`).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from lift.depths import DepthEstimator
from lift.multiview.depth_alignment import (
    AlignedDepth,
    align_depth,
    align_depths,
    merge_points,
    track_depth,
)
from lift.poses import overlap_advice
from lift.poses.sfm.alignment import (
    Correspondences,
    RegisteredFrames,
    RegistrationOptions,
    align_to_plan,
    single_frame,
)
from lift.poses.sfm.initialization import InitializationError
from lift.types import Depth, Frames, Reconstruction, Trajectory

CELL_SIZE = 16
"""Width in pixels of a cell in which matches are counted."""


def register_frames(
    correspondences: Correspondences,
    trajectory: Trajectory,
    depth: Depth,
    options: RegistrationOptions,
    min_registered: float,
    device: torch.device | None = None,
) -> RegisteredFrames:
    """Align frames to the plan and check the result; a single frame keeps its planned camera.

    Args:
        correspondences: What matching says about the frames.
        trajectory: The plan.
        depth: Depth of the input, which gives the scale.
        options: How cameras are estimated.
        min_registered: Smallest fraction of frames that must be registered.
        device: Device to compute on.

    Returns:
        Cameras of all frames, and the points that agree with them.

    Raises:
        ValueError: If too few frames can be registered.
    """
    frames = len(trajectory.cameras)
    try:
        registered = align_to_plan(correspondences, trajectory, depth, options, device)
    except InitializationError as error:
        if frames > 1:
            raise ValueError(
                f"the frames have too little in common to be registered ({error}); "
                f"{overlap_advice(trajectory)}"
            ) from None
        registered = single_frame(trajectory)
    _check_registered(registered, trajectory, min_registered)
    return registered


def _check_registered(
    result: RegisteredFrames, trajectory: Trajectory, min_registered: float
) -> None:
    """Raise ValueError if too few frames are registered."""
    frames = len(trajectory.cameras)
    count = int(result.registered.sum())
    if count < min_registered * frames:
        raise ValueError(
            f"{count} of {frames} frames were registered, fewer than "
            f"pose.min_registered={min_registered:g} asks for: they have too little in common; "
            f"{overlap_advice(trajectory)}"
        )


def match_support(
    keypoints: Float[Tensor, "keypoint 2"],
    inliers: Float[Tensor, "observation 2"],
    width: int,
    height: int,
) -> Float[Tensor, "height width"]:
    """Compute the fraction of keypoints around each pixel that other frames confirm.

    Args:
        keypoints: Keypoints of the frame in pixels.
        inliers: Pixels of the frame's observations that agree with the cameras.
        width: Width of the frame in pixels.
        height: Height of the frame in pixels.

    Returns:
        The fraction relative to its median, at most 1; as elsewhere where there are no keypoints.
    """
    size = (max(1, height // CELL_SIZE), max(1, width // CELL_SIZE))
    counts = []
    for points in (keypoints, inliers):
        column = (points[:, 0] / width * size[1]).long().clamp(0, size[1] - 1)
        row = (points[:, 1] / height * size[0]).long().clamp(0, size[0] - 1)
        count = (
            torch.bincount(row * size[1] + column, minlength=size[0] * size[1])
            .view(1, 1, *size)
            .float()
        )
        counts.append(avg_pool2d(count, 5, 1, 2, count_include_pad=False))
    if not len(inliers):
        return torch.zeros(height, width)
    overall = len(inliers) / max(1, len(keypoints))
    fraction = (counts[1] + 0.1 * overall) / (counts[0].clamp(min=counts[1]) + 0.1)
    fraction = fraction / fraction.flatten().quantile(0.5)
    return interpolate(
        fraction.clamp(max=1), (height, width), mode="bilinear", align_corners=False
    )[0, 0]


def build_reconstruction(
    frames: Frames,
    registered: RegisteredFrames,
    depth: Depth,
    estimator: DepthEstimator | None,
    tolerance: float,
    max_points: int,
    supports: Sequence[Float[Tensor, "height width"]] = (),
) -> Reconstruction:
    """Align the depth of every frame to its points and merge all depths into a point cloud.

    Args:
        frames: The frames.
        registered: Cameras and points.
        depth: Depth of the input.
        estimator: Depth estimator, used if the frames have no depth.
        tolerance: Relative depth error at which the confidence is a half.
        max_points: Largest number of points of the cloud.
        supports: Factors on the confidence of each frame; 1 if empty.

    Returns:
        Cameras, points, depth and confidence.
    """
    cameras = registered.cameras
    visible = []
    for view in range(len(frames)):
        in_frame = (registered.observations.frame == view) & registered.registered[view]
        points = registered.points[registered.observations.point[in_frame]]
        visible.append(points.to(cameras.world_to_camera))
    aligned = align_depths(frames, cameras, visible, depth, estimator, tolerance)
    if len(frames) == 1:
        aligned = [_self_aligned(frames, depth, tolerance)]
    confidences = [
        view_depth.confidence * supports[view].to(view_depth.confidence)
        if supports
        else view_depth.confidence
        for view, view_depth in enumerate(aligned)
    ]
    depth_maps = torch.stack([view_depth.depth for view_depth in aligned])
    confidence = torch.stack(confidences)
    cloud = merge_points(frames, cameras, depth_maps, confidence, max_points)
    tracked = torch.stack(
        [track_depth(points, cameras[view]) for view, points in enumerate(visible)]
    ).to(depth_maps)
    return Reconstruction(cameras, cloud, depth_maps, confidence, tracked)


def _self_aligned(frames: Frames, depth: Depth, tolerance: float) -> AlignedDepth:
    """Return the depth of a single frame, which no other frame can check."""
    if frames.depth is not None:
        reference = frames.depth[0]
    else:
        reference = torch.where(depth.valid, depth.depth, 0.0)
    return align_depth(reference, reference, tolerance, shift=frames.depth is None)
