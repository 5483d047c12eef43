"""What the pose stage gets of a trajectory."""

from pathlib import Path

import pytest
import torch

from lift.config import compose_run
from lift.planners.liftimage3d import LiftImage3D
from lift.poses import PoseEstimator
from lift.runtime.session import Session
from lift.stages.plan import constant_depth
from lift.stages.reconstruct import reconstruct
from lift.types import Frames, PointCloud, Reconstruction, Trajectory
from tests.helpers.clips import scene


class Recorder(PoseEstimator):
    """Keep the trajectory of the call."""

    trajectory: Trajectory

    def __call__(self, frames: Frames, trajectory: Trajectory) -> Reconstruction:
        self.trajectory = trajectory
        depth = torch.ones(frames.images.shape[:3])
        cloud = PointCloud(torch.zeros(1, 3), torch.zeros(1, 3))
        return Reconstruction(trajectory.cameras, cloud, depth, depth)


@pytest.mark.parametrize("hint", ["requested", "planned"])
def test_requested_cameras_are_no_evidence_for_poses(tmp_path: Path, hint: str) -> None:
    config = compose_run(["image=coffee", f"output={tmp_path}", "stereo.size=0"])
    _, camera, _ = scene()
    plan = LiftImage3D(levels=1, num_frames=2)(camera, constant_depth(camera), None)
    plan = Trajectory(plan.start, plan.clips, hint)
    frames = Frames(torch.zeros(9, 64, 96, 3, dtype=torch.uint8))
    pose = Recorder()
    reconstruct(Session(config), pose, frames, plan, "key")
    same = pose.trajectory.cameras.world_to_camera.equal(plan.cameras.world_to_camera)
    assert same == (hint == "planned")
    assert pose.trajectory.hint == hint and pose.trajectory.parents == plan.parents
