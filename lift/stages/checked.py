"""Components whose output is checked at each call."""

from torch import Tensor

from lift.depths import DepthEstimator
from lift.planners import Planner
from lift.stages.checks import Output, OutputError, check_depth, check_trajectory
from lift.types import Cameras, Depth, Trajectory, TrajectoryError


class CheckedPlanner(Planner):
    """Checks every trajectory of a planner.

    Args:
        planner: The planner.
    """

    def __init__(self, planner: Planner) -> None:
        self.planner = planner
        self.supports_magnitude = planner.supports_magnitude
        self.hints_recorded_frames = planner.hints_recorded_frames
        self._clip_counts: dict[int | None, int] = {}

    def __call__(
        self, camera: Cameras, depth: Depth, clip_length: int | None, magnitude: float = 1.0
    ) -> Trajectory:
        """Plan, and check the trajectory. See `Planner`."""
        try:
            trajectory = self.planner(camera, depth, clip_length, magnitude)
        except TrajectoryError as error:
            name = Output.of("planner", self.planner).component
            raise OutputError(f"{name} made no trajectory: {error}") from error
        check_trajectory(self.planner, trajectory, camera, clip_length)
        found = len(trajectory.clips)
        expected = self._clip_counts.setdefault(clip_length, found)
        if found != expected:
            Output.of("planner", self.planner).fail(
                "trajectory.clips",
                f"with {found} clips for the magnitude {magnitude:g}",
                f"{expected}, as for the magnitude before",
            )
        return trajectory


class CheckedDepth(DepthEstimator):
    """Checks every depth of an estimator.

    Args:
        estimator: The depth estimator.
    """

    def __init__(self, estimator: DepthEstimator) -> None:
        self.estimator = estimator
        self.edge_width = estimator.edge_width

    def __call__(self, image: Tensor) -> Depth:
        """Estimate depth, and check it. See `DepthEstimator`."""
        return check_depth(self.estimator, self.estimator(image), image)

    def draft(self, image: Tensor) -> Depth:
        """Estimate depth more cheaply, and check it. See `DepthEstimator`."""
        return check_depth(self.estimator, self.estimator.draft(image), image)
