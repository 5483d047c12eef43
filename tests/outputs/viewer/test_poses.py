"""Poses of the viewer's camera."""

import math

import numpy as np
import pytest
import torch

from lift.camera_paths import orbit_cameras
from lift.geometry import pinhole
from lift.outputs.viewer.poses import camera_at, covering_fov, pose_of

CAMERA = pinhole(60, 40, 50.0)


def test_a_pose_gives_its_camera_back():
    camera = orbit_cameras(CAMERA, torch.tensor([[12.0, -7.0, 0.1]]), 3.0)
    again = camera_at(pose_of(camera, 2.0), camera)
    assert torch.allclose(again.world_to_camera, camera.world_to_camera, atol=1e-6)
    assert torch.equal(again.intrinsics, camera.intrinsics)


def test_zoom_multiplies_the_focal_length_alone():
    zoomed = camera_at(pose_of(CAMERA, 2.0), CAMERA, 2.0)
    assert zoomed.intrinsics[0].tolist() == [[100.0, 0.0, 30.0], [0.0, 100.0, 20.0], [0, 0, 1]]


@pytest.mark.parametrize("aspect", [0.4, 1.0, 1.5, 3.0])
def test_a_window_never_shows_more_than_the_picture(aspect):
    half_height = math.tan(covering_fov(CAMERA, aspect) / 2)
    assert half_height <= 20 / 50 + 1e-9 and half_height * aspect <= 30 / 50 + 1e-9


def test_a_window_of_the_pictures_shape_shows_all_of_it():
    assert covering_fov(CAMERA, 1.5) == pytest.approx(2 * math.atan(20 / 50))


def test_a_mix_of_poses_has_a_unit_up_vector():
    start = pose_of(CAMERA, 2.0)
    end = pose_of(orbit_cameras(CAMERA, torch.tensor([[40.0, 30.0, 0.0]]), 2.0), 2.0)
    middle = start.mix(end, 0.5)
    assert np.linalg.norm(middle.up) == pytest.approx(1.0)
    assert start.mix(end, 0.0).is_close(start) and start.mix(end, 1.0).is_close(end)
