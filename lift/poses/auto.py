"""The pose estimator that is used by default."""

import logging

import torch

from lift.depths import DepthEstimator
from lift.poses import PoseEstimator, has_cameras, poses
from lift.poses.matching import Matching
from lift.poses.planned import Planned
from lift.registry.ranges import PointCount, Tolerance
from lift.types import Depth, Frames, Reconstruction, Trajectory


@poses.register("auto")
class Auto(PoseEstimator):
    """Use `planned` for priors with exact cameras, else `matching`.

    Falls back to `planned`, with a warning, if too few matches are found. To change other settings
    of these estimators, choose one of them by name.

    Args:
        tolerance: Relative depth error at which the confidence is a half.
        max_points: Largest number of points of the merged cloud.
        multiview_consistent: Whether the frames show one scene from exactly the planned cameras.
        depth: Depth of the input picture, which gives the scale.
        estimator: Estimator of the depth of frames. None: the frames must have depth.
        focal_known: Whether the focal length is measured (EXIF, calibration or given cameras).
        device: Device to compute on.
    """

    def __init__(
        self,
        tolerance: Tolerance = 0.05,
        max_points: PointCount = 2_000_000,
        *,
        multiview_consistent: bool,
        depth: Depth,
        estimator: DepthEstimator | None = None,
        focal_known: bool = True,
        device: torch.device,
    ) -> None:
        self.planned = Planned(tolerance, max_points, depth=depth, estimator=estimator)
        self.matching = (
            None
            if multiview_consistent
            else Matching(
                tolerance=tolerance,
                max_points=max_points,
                depth=depth,
                estimator=estimator,
                focal_known=focal_known,
                device=device,
            )
        )

    def __call__(self, frames: Frames, trajectory: Trajectory) -> Reconstruction:
        """Estimate cameras, depth and points. See `PoseEstimator`."""
        if self.matching is None or len(frames) == 1:
            return self.planned(frames, trajectory)
        try:
            return self.matching(frames, trajectory)
        except ValueError as error:
            if not has_cameras(trajectory):
                raise
            logging.getLogger(__name__).warning(
                "the planned cameras are used, because pose=matching failed: %s", error
            )
            return self.planned(frames, trajectory)
