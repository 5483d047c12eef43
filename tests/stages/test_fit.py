"""What the fit hands to a distortion."""

import torch

from lift.stages.fit import distortion_inputs
from lift.stages.views import Views
from lift.types import Clip, Depth, Trajectory
from tests.helpers.fits import scene


def test_a_distortion_gets_estimated_cameras_and_the_planned_tree():
    frames, reconstruction = scene(4)
    far = reconstruction.cameras.map(torch.clone)
    far.world_to_camera[1:, :3, 3] += 100
    plan = Trajectory(far[0], (Clip("right", 0, far[1:3]), Clip("right/up", 2, far[3])))
    depth = Depth(torch.ones(2, 2), torch.ones(2, 2, dtype=torch.bool), "scale")
    inputs = distortion_inputs(Views(depth, plan, frames, reconstruction, "key"))
    trajectory = inputs["trajectory"]
    assert [(clip.name, clip.source) for clip in trajectory.clips] == [
        ("right", 0),
        ("right/up", 2),
    ]
    cameras = reconstruction.cameras
    assert trajectory.cameras.world_to_camera[1:].equal(cameras.world_to_camera[1:])
    assert trajectory.start is plan.start
