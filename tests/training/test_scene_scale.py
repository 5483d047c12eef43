"""Units of length of a fit."""

from dataclasses import replace

import pytest
import torch

from lift.registry import ComponentError
from lift.training.scene_scale import depth_unit, scene_scale
from lift.types import PointCloud
from tests.helpers.fits import scene


def test_the_cameras_give_the_scale_of_the_scene():
    _, reconstruction = scene(4)  # on a line from 0 to 1
    assert scene_scale("depth", reconstruction, 3.0) == 3.0
    assert scene_scale("cameras", reconstruction, 3.0) == pytest.approx(1.1 * 0.5)


def test_unregistered_cameras_do_not_count():
    _, reconstruction = scene(4)
    reconstruction.confidence[3] = 0
    assert scene_scale("cameras", reconstruction, 3.0) == pytest.approx(1.1 / 3)


def test_the_points_give_the_unit_of_depth():
    _, reconstruction = scene()
    points = torch.tensor([[0.0, 0, 0], [0, 0, 9], [3, 0, 0]])
    known = replace(reconstruction, points=PointCloud(points, torch.zeros(3, 3)))
    assert depth_unit("points", known, 3.0) == pytest.approx(0.6), "9 is 6 from the mean, 3"
    assert depth_unit("typical", known, 3.0) == 3.0


def test_a_scene_without_extent_is_an_error():
    _, reconstruction = scene()
    cameras = reconstruction.cameras.map(lambda value: value[:1].expand(4, -1, -1))
    with pytest.raises(ComponentError, match="all cameras have one position; choose depth"):
        scene_scale("cameras", replace(reconstruction, cameras=cameras), 3.0)
    flat = PointCloud(torch.ones(5, 3), torch.zeros(5, 3))
    with pytest.raises(ComponentError, match="all points have one position; choose typical"):
        depth_unit("points", replace(reconstruction, points=flat), 3.0)
