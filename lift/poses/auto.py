"""Which estimator, if none was chosen."""

import logging

import torch

from lift.depths import DepthEstimator
from lift.poses import PoseEstimator, poses
from lift.poses.matching import Matching
from lift.poses.planned import Planned
from lift.types import Depth, Frames, Reconstruction, Trajectory


@poses.register("auto")
class Auto(PoseEstimator):
    """`planned` where the prior vouches for its frames, else `matching`; `planned` all the same, with a warning, where too little is found again.

    Settings other than these are those estimators' own: choose one by name to set them. tolerance, most_points: as for `planned`.
    """

    def __init__(
        self,
        tolerance: float = 0.05,
        most_points: int = 2_000_000,
        *,
        agree: bool,
        depth: Depth,
        estimator: DepthEstimator | None = None,
        focal_known: bool = True,
        device: torch.device,
    ) -> None:
        self.planned = Planned(tolerance, most_points, depth=depth, estimator=estimator)
        self.matching = (
            None
            if agree
            else Matching(
                tolerance=tolerance,
                most_points=most_points,
                depth=depth,
                estimator=estimator,
                focal_known=focal_known,
                device=device,
            )
        )

    def __call__(self, frames: Frames, trajectory: Trajectory) -> Reconstruction:
        if self.matching is None or len(frames) == 1:
            return self.planned(frames, trajectory)
        try:
            return self.matching(frames, trajectory)
        except ValueError as error:
            if trajectory.hint in ("sequence", "unordered"):
                raise
            logging.getLogger(__name__).warning(
                "cameras are taken to be as planned, for pose=matching failed: %s", error
            )
            return self.planned(frames, trajectory)
