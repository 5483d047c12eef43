"""Controls of priors: rays, directions of motion and the nearest depth."""

import pytest
import torch

from lift.planners import planners
from lift.priors import ClipRequest
from lift.priors.diffusion.clips import clip_path
from lift.priors.diffusion.controls import main_direction, near_depth, pluecker_rays
from lift.types import Depth
from tests.helpers.clips import scene, sideways
from tests.helpers.rays import poses_of_rays, turning_path

pytest.importorskip("diffusers")


def test_rays_are_moment_and_direction_and_invert_to_path():
    cameras = turning_path()
    rays = pluecker_rays(cameras)
    assert rays.shape == (5, 6, 20, 24)
    torch.testing.assert_close(rays[:, 3:].norm(dim=1), torch.ones(5, 20, 24))
    torch.testing.assert_close(
        poses_of_rays(rays, cameras), cameras.camera_to_world.double(), atol=1e-5, rtol=0
    )
    camera = turning_path(1)
    camera.world_to_camera[0, 0, 3] = -2.0  # two to the right
    aside = pluecker_rays(camera)[
        0, :, 8, 12
    ]  # of the pixel half a pixel up and left of the principal point
    torch.testing.assert_close(
        aside[3:], torch.nn.functional.normalize(torch.tensor([-0.5 / 20, -0.5 / 30, 1]), dim=0)
    )
    torch.testing.assert_close(aside[:3], torch.linalg.cross(torch.tensor([2.0, 0, 0]), aside[3:]))


def test_moves_depend_on_camera_motion_not_clip_name():
    frames, camera, depth = scene()
    plan = planners.build(
        {
            "name": "articulated",
            "levels": 2,
            "directions": ["right", "left", "up", "down", "in", "out"],
        }
    )(camera, depth, 6)
    assert len(plan.clips) == 36
    for clip in plan.clips:
        assert (
            main_direction(clip_path(ClipRequest(frames, plan.cameras, clip, 0)), depth.typical)
            == clip.name.split("/")[-1]
        ), clip.name
    still = sideways(camera, 3, 0.001 * depth.typical)
    assert (
        main_direction(clip_path(ClipRequest(frames, camera, still, 0)), depth.typical) == "still"
    )
    spiral = planners.build({"name": "spiral"})(camera, depth, 40).clips[
        0
    ]  # comes back to where it began
    assert (
        main_direction(clip_path(ClipRequest(frames, camera, spiral, 0)), depth.typical) != "still"
    )


def test_scene_starts_at_the_fifth_percentile_of_depth():
    depth = torch.arange(1, 201).reshape(10, 20).float()
    valid = depth > 100
    assert (
        near_depth(Depth(depth, torch.ones_like(valid), "scale")) == 10
        and near_depth(Depth(depth, valid, "scale")) == 105
    )
