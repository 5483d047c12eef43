"""The pose estimator `new_pose`."""

from dataclasses import replace
from typing import Annotated

from annotated_types import Interval

from lift.depths import DepthEstimator
from lift.poses import PoseEstimator, check_frames, poses
from lift.poses.planned import Planned
from lift.types import Cameras, Depth, Frames, Reconstruction, Trajectory


@poses.register("new_pose")
class NewPose(PoseEstimator):
    """Assume that all frames move by the same fraction of the planned motion.

    Args:
        motion: Fraction of the planned translation that frames really show, from 0 to 2.
    """

    def __init__(
        self,
        motion: Annotated[float, Interval(ge=0, le=2)] = 1.0,
        *,
        depth: Depth,
        estimator: DepthEstimator | None = None,
    ) -> None:
        self.motion = motion
        # It aligns the depth of the frames, and merges them to points, for given cameras.
        self.planned = Planned(depth=depth, estimator=estimator)

    def __call__(self, frames: Frames, trajectory: Trajectory) -> Reconstruction:
        """Estimate cameras, depth and points. See `PoseEstimator`."""
        check_frames(frames, trajectory.cameras)
        cameras = self._estimate_cameras(frames, trajectory)
        clips = [
            replace(clip, cameras=cameras[list(span)])
            for clip, span in zip(trajectory.clips, trajectory.spans, strict=True)
        ]
        return self.planned(frames, replace(trajectory, clips=tuple(clips)))

    def _estimate_cameras(self, frames: Frames, trajectory: Trajectory) -> Cameras:
        """Return one camera a frame. Camera 0 is exactly the trajectory's start.

        Args:
            frames: All frames, the input first.
            trajectory: Their planned cameras.
        """
        # An estimator goes here. It may start from the planned cameras.
        planned = trajectory.cameras
        world_to_camera = planned.world_to_camera.clone()
        world_to_camera[1:, :3, 3] *= self.motion
        return replace(planned, world_to_camera=world_to_camera)
