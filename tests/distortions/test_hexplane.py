"""The planes of HexPlane."""

import torch

from lift import geometry
from lift.distortions import distortions
from lift.distortions.hexplane import HexPlane
from lift.geometry import project
from lift.types import Cameras, Clip, PointCloud, Trajectory
from tests.helpers.distortions import (
    ALL_VIEWS,
    CAMERA,
    SUPPLIED,
    build_distortion,
    random_gaussians,
)


def test_released_planes_are_not_identity_but_keep_the_input():
    torch.manual_seed(0)
    released: HexPlane = build_distortion("hexplane", as_released=True)
    released.progress = 0.0
    assert (
        released.gaussians(random_gaussians(), ALL_VIEWS) is not None
        and released.gaussians(random_gaussians(), ALL_VIEWS).means.shape
        == random_gaussians().means.shape
    )
    released.progress = 1.0
    moved = released.gaussians(random_gaussians(), torch.tensor([2, 0]))
    assert bool((moved.means[0] != random_gaussians().means).any())
    tied = released.penalty()
    released.gaussians(random_gaussians(), torch.tensor([0, 2]))
    assert float(tied) > float(released.penalty()), "only where the input comes last"


def test_released_planes_have_the_unit_of_all_points():
    released: HexPlane = build_distortion("hexplane", as_released=True)
    points = SUPPLIED["points"].points
    assert released.unit == float((points - points.mean(0)).abs().max()) / 10


def test_released_planes_span_the_points_of_the_input():
    inside = SUPPLIED["points"]
    behind = PointCloud(torch.tensor([[0.0, 0, -9], [90, 0, 3]]), torch.zeros(2, 3))
    settings = {"name": "hexplane", "as_released": True}
    supplied = SUPPLIED | {"points": PointCloud.cat([inside, behind])}
    planes = distortions.build(settings, **supplied).planes
    pixels, _ = project(inside.points, CAMERA)
    shown = inside.points[geometry.inside(pixels[0], CAMERA)]
    assert 0 < len(shown) < len(inside)
    assert planes.low.equal(shown.amin(0)) and planes.high.equal(shown.amax(0))


def test_rates_of_the_planes_follow_the_cameras():
    still = Trajectory(CAMERA, (Clip("right", 0, Cameras.cat([CAMERA] * 4)),))
    moving: HexPlane = build_distortion("hexplane")
    fixed = distortions.build({"name": "hexplane"}, **SUPPLIED | {"trajectory": still})
    planes, network = moving.groups()
    assert planes["lr"] > 100 * next(fixed.groups())["lr"]
    assert network["lr"] == planes["lr"] / 10
