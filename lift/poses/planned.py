"""Trust the plan."""

import torch

from lift.depths import DepthEstimator
from lift.geometry import unproject
from lift.multiview.depth_alignment import merged, place, seen, uncovered
from lift.poses import PoseEstimator, check_fit, check_settings, has_cameras, poses
from lift.types import Depth, Frames, Reconstruction, Trajectory


@poses.register("planned")
class Planned(PoseEstimator):
    """The cameras that were asked for; right for priors that obey exactly, a start for others.

    Depth is the prior's where it knows it, with confidence 1. Else every frame's depth is estimated, and scale and shift of its inverse
    aligned to what earlier frames saw, the input first; confidence falls with the disagreement (`lift.multiview.depth_alignment.place`).

    tolerance: relative error of depth at which confidence is a half. most_points: size of the merged cloud.
    """

    def __init__(
        self,
        tolerance: float = 0.05,
        most_points: int = 2_000_000,
        *,
        depth: Depth,
        estimator: DepthEstimator | None = None,
    ) -> None:
        check_settings(tolerance=tolerance, most_points=most_points)
        self.tolerance = tolerance
        self.most_points = most_points
        self.depth = depth
        self.estimator = estimator

    def __call__(self, frames: Frames, trajectory: Trajectory) -> Reconstruction:
        cameras = trajectory.cameras
        check_fit(frames, cameras)
        if not has_cameras(trajectory):
            raise ValueError(
                "pose=planned takes the cameras that are given, and none are known of these frames; "
                "choose pose=matching, or give their cameras"
            )
        if frames.depth is not None:
            depth, confidence = frames.depth, (frames.depth > 0).float()
        else:
            depth, confidence = self._estimated(frames, trajectory)
        return Reconstruction(
            cameras, merged(frames, cameras, depth, confidence, self.most_points), depth, confidence
        )

    def _estimated(
        self, frames: Frames, trajectory: Trajectory
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.estimator is None:
            raise ValueError(
                "pose 'planned' needs a depth estimator: the prior does not know the depth of its frames"
            )
        cameras = trajectory.cameras
        valid = self.depth.valid.to(frames.images.device)
        first = torch.where(valid, self.depth.depth.to(valid.device), 0.0)
        depths, confidences = [first], [valid.float()]
        # One growing cloud, to which a frame adds only what nothing was known of: so errors do not pile up where frames overlap.
        cloud = unproject(first[None], cameras[0])[0][valid]
        for view in range(1, len(frames)):
            estimate = self.estimator(frames.images[view])
            known = seen(cloud, cameras[view])
            placed = place(
                torch.where(estimate.valid, estimate.depth, 0.0).to(known), known, self.tolerance
            )
            depths.append(placed.depth)
            confidences.append(placed.confidence)
            new = uncovered(known) & (placed.depth > 0)
            if placed.found and bool(new.any()):
                cloud = torch.cat([cloud, unproject(placed.depth[None], cameras[view])[0][new]])
        return torch.stack(depths), torch.stack(confidences)
