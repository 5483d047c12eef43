"""The planned cameras, unchanged."""

import torch
from jaxtyping import Float
from torch import Tensor

from lift.depths import DepthEstimator
from lift.geometry import unproject
from lift.multiview.depth_alignment import (
    align_depth,
    merge_points,
    uncovered_pixels,
    visible_depth,
)
from lift.poses import (
    PoseEstimator,
    check_frames,
    has_cameras,
    poses,
    require_estimator,
)
from lift.registry.ranges import PointCount, Tolerance
from lift.types import Depth, Frames, Reconstruction, Trajectory


@poses.register("planned")
class Planned(PoseEstimator):
    """Use the planned cameras unchanged and align the depth of the frames.

    The prior's depth, if it has any, is used with confidence 1. Else the depth of every frame is
    estimated. Scale and shift of its inverse are aligned to the points of earlier frames, the input
    first. The confidence falls with the disagreement (`lift.multiview.depth_alignment`).

    Args:
        tolerance: Relative depth error at which the confidence is a half.
        max_points: Largest number of points of the merged cloud.
        depth: Depth of the input picture, used for the first frame.
        estimator: Estimator of the depth of frames. None: the frames must have depth.
    """

    def __init__(
        self,
        tolerance: Tolerance = 0.05,
        max_points: PointCount = 2_000_000,
        *,
        depth: Depth,
        estimator: DepthEstimator | None = None,
    ) -> None:
        self.tolerance = tolerance
        self.max_points = max_points
        self.depth = depth
        self.estimator = estimator

    def __call__(self, frames: Frames, trajectory: Trajectory) -> Reconstruction:
        """Estimate depth and points. See `PoseEstimator`."""
        cameras = trajectory.cameras
        check_frames(frames, cameras)
        if not has_cameras(trajectory):
            raise ValueError(
                "pose=planned uses the given cameras, and none are known of these frames; "
                "choose pose=matching, or give their cameras"
            )
        if frames.depth is not None:
            depth = frames.depth
            confidence = (depth > 0).float()
        else:
            depth, confidence = self._estimate_depth(frames, trajectory)
        cloud = merge_points(frames, cameras, depth, confidence, self.max_points)
        return Reconstruction(cameras, cloud, depth, confidence)

    def _estimate_depth(
        self, frames: Frames, trajectory: Trajectory
    ) -> tuple[Float[Tensor, "view height width"], Float[Tensor, "view height width"]]:
        """Estimate the depth of all frames and align it, frame after frame."""
        estimator = require_estimator("planned", self.estimator)
        cameras = trajectory.cameras
        valid = self.depth.valid.to(frames.images.device)
        first = torch.where(valid, self.depth.depth.to(valid.device), 0.0)
        depths = [first]
        confidences = [valid.float()]
        # A frame adds points only where the cloud has none. So errors do not add up in overlaps.
        cloud = unproject(first[None], cameras[0])[0][valid]
        for view in range(1, len(frames)):
            estimate = estimator(frames.images[view])
            target = visible_depth(cloud, cameras[view])
            depth = torch.where(estimate.valid, estimate.depth, 0.0).to(target)
            aligned = align_depth(depth, target, self.tolerance)
            depths.append(aligned.depth)
            confidences.append(aligned.confidence)
            new = uncovered_pixels(target) & (aligned.depth > 0)
            if aligned.success and bool(new.any()):
                points = unproject(aligned.depth[None], cameras[view])[0][new]
                cloud = torch.cat([cloud, points])
        return torch.stack(depths), torch.stack(confidences)
