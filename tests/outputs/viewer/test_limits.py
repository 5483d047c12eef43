"""The camera stays in the region that the frames observed."""

import numpy as np
import pytest
import torch

from lift.geometry import pinhole, rigid, rotation_from_vector
from lift.outputs.view_region import ViewRegion
from lift.outputs.viewer.limits import CameraLimits
from lift.outputs.viewer.poses import Pose, pose_of
from lift.types import Cameras

REGION = ViewRegion((0.0, 0.0, 4.0), 4.0, (-20.0, 10.0), (-5.0, 15.0), (3.0, 5.0), 0.9)


def view(azimuth: float, elevation: float, distance: float) -> Pose:
    """A view of the region, by the region's own arithmetic."""
    values = (torch.tensor([value]) for value in (azimuth, elevation, distance))
    return pose_of(REGION.cameras(pinhole(64, 48, 60.0), *values), distance)


@pytest.fixture
def limits():
    return CameraLimits(REGION, pinhole(64, 48, 60.0))


@pytest.mark.parametrize("values", [(0, 0, 4), (-20, 0, 4), (10, 15, 5), (-20, -5, 3), (3, 2, 3.3)])
def test_a_view_within_the_limits_stays(limits, values):
    pose = view(*map(float, values))
    assert limits.clamp(pose) is pose


@pytest.mark.parametrize(
    ("values", "nearest"),
    [
        ((-50, 0, 4), (-20, 0, 4)),
        ((70, 0, 4), (10, 0, 4)),
        ((0, 60, 4), (0, 15, 4)),
        ((0, -30, 4), (0, -5, 4)),
        ((0, 0, 1), (0, 0, 3)),
        ((0, 0, 40), (0, 0, 5)),
        ((-120, 50, 9), (-20, 15, 5)),
    ],
)
def test_a_view_beyond_a_limit_goes_to_the_limit(limits, values, nearest):
    clamped = limits.clamp(view(*map(float, values)))
    assert clamped.is_close(view(*map(float, nearest)), 1e-5)
    assert limits.clamp(clamped) is clamped


def test_the_orbited_point_stays_near_the_target(limits):
    pose = view(0.0, 0.0, 4.0)
    shift = np.array([3.0, 0.0, 0.0])
    clamped = limits.clamp(Pose(pose.position + shift, pose.look_at + shift, pose.up))
    assert 0 < np.linalg.norm(clamped.look_at - REGION.target) <= limits.pan * 1.001
    assert np.allclose(clamped.position - clamped.look_at, pose.position - pose.look_at)


def test_a_tilted_view_beyond_a_limit_becomes_upright(limits):
    pose = view(-50.0, 0.0, 4.0)
    tilted = Pose(pose.position, pose.look_at, np.array([1.0, 0.0, 0.0]))
    assert np.allclose(limits.clamp(tilted).up, [0, -1, 0])


def test_limits_follow_a_turned_input_camera():
    pinhole_camera = pinhole(64, 48, 60.0)
    turn = rigid(rotation_from_vector(torch.tensor([[0.3, 0.5, -0.2]])), torch.ones(1, 3))
    camera = Cameras(turn, pinhole_camera.intrinsics, 64, 48)
    home = pose_of(camera, 4.0)
    region = ViewRegion(
        tuple(home.look_at.tolist()), 4.0, (-20.0, 10.0), (-5.0, 15.0), (3.0, 5.0), 0.9
    )
    values = (torch.tensor([value]) for value in (60.0, 0.0, 4.0))
    clamped = CameraLimits(region, camera).clamp(pose_of(region.cameras(camera, *values), 4.0))
    values = (torch.tensor([value]) for value in (10.0, 0.0, 4.0))
    assert clamped.is_close(pose_of(region.cameras(camera, *values), 4.0), 1e-4)
