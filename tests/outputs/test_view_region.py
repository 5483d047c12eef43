"""The region holds views that stay covered, and says so in numbers that JSON keeps."""

import json
from dataclasses import replace

import pytest
import torch

from lift.geometry import pinhole, project
from lift.outputs.coverage import Coverage
from lift.outputs.view_region import (
    MAX_AZIMUTH,
    REQUIRED_AT_CORNERS,
    REQUIRED_COVERAGE,
    ViewRegion,
    covered_region,
)
from lift.renderers.numba import Numba
from lift.types import Cameras, Gaussians
from tests.helpers.coverage import CoveredWithin

CAMERA = pinhole(20, 15, 20.0)
REGION = ViewRegion((0.0, 0.0, 4.0), 4.0, (-20.0, 10.0), (-5.0, 8.0), (3.0, 4.5), 0.9)


def region_of(measure: CoveredWithin, camera: Cameras = CAMERA) -> ViewRegion:
    gaussians = Gaussians(
        torch.zeros(1, 3),
        torch.zeros(1, 4),
        torch.zeros(1, 3),
        torch.zeros(1),
        torch.zeros(1, 1, 3),
    )
    return covered_region(Numba(), gaussians, camera, 1.0, measure)


@pytest.fixture(scope="module")
def wall() -> Gaussians:
    """A wall at z = 4 with a box in front of it."""
    side = torch.arange(-4, 4.01, 0.5)
    points = torch.cartesian_prod(side, side, torch.tensor([4.0]))
    box = torch.cartesian_prod(*2 * [torch.arange(-0.4, 0.41, 0.2)], torch.tensor([3.0]))
    points = torch.cat([points, box])
    count = len(points)
    quats = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(count, 4).clone()
    scales = torch.full((count, 3), 0.3)
    return Gaussians(points, quats, scales, torch.full((count,), 0.95), torch.zeros(count, 1, 3))


def test_each_direction_ends_where_coverage_ends():
    region = region_of(CoveredWithin(right=25, left=12, up=9, back=0.8))
    assert region.azimuth == pytest.approx((-12, 25), abs=2.5)
    assert region.elevation[1] == pytest.approx(9, abs=1.5)
    assert region.distance[1] == pytest.approx(4.8, abs=0.1)
    assert region.azimuth[0] >= -12 and region.azimuth[1] <= 25 and region.elevation[1] <= 9


def test_without_loss_of_coverage_the_largest_limits_hold():
    region = region_of(CoveredWithin())
    assert region.azimuth == (-MAX_AZIMUTH, MAX_AZIMUTH)


def test_a_view_that_frames_never_left_has_no_extent():
    region = region_of(CoveredWithin(right=1e-4, left=1e-4, up=1e-4, back=1e-4))
    assert region.azimuth == (0.0, 0.0) and region.elevation[1] == 0.0


def test_limits_do_not_depend_on_the_pose_of_the_world():
    measure = CoveredWithin(right=25, left=12)
    turn = torch.eye(4)
    turn[:3, :3] = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    turn[:3, 3] = torch.tensor([1.0, -2.0, 3.0])
    moved = replace(CAMERA, world_to_camera=CAMERA.world_to_camera @ turn)

    class Moved(CoveredWithin):
        def __call__(self, cameras: Cameras) -> torch.Tensor:
            there = replace(
                cameras, world_to_camera=cameras.world_to_camera @ torch.linalg.inv(turn)
            )
            return measure(there)

    assert region_of(Moved(), moved).azimuth == pytest.approx(region_of(measure).azimuth)


def test_the_target_is_the_subject_in_the_middle(wall):
    region = covered_region(Numba(), wall, CAMERA, 4.0)
    assert region.target == pytest.approx((0, 0, region.input_distance), abs=1e-5)
    assert 2.9 < region.input_distance < 4.1


def test_all_corners_of_a_real_region_are_covered(wall):
    coverage = Coverage(Numba(), wall, CAMERA)
    region = covered_region(Numba(), wall, CAMERA, 4.0, coverage)
    corners = torch.cartesian_prod(
        *(
            torch.tensor(limits).double()
            for limits in (region.azimuth, region.elevation, region.distance)
        )
    )
    corner_coverage = coverage(region.cameras(CAMERA, *corners.unbind(-1)))
    assert float(corner_coverage.min()) >= REQUIRED_AT_CORNERS * float(coverage(CAMERA)[0])
    assert region.coverage == pytest.approx(float(corner_coverage.min()), abs=1e-3)
    beyond = torch.tensor([1.6 * region.azimuth[1] + 4], dtype=torch.float64)
    zero = torch.zeros(1, dtype=torch.float64)
    outside = coverage(region.cameras(CAMERA, beyond, zero, zero + region.input_distance))
    assert float(outside) < REQUIRED_COVERAGE, "the limit is not far from where coverage ends"


def test_more_frames_make_the_region_wider(wall):
    beside = region_of(CoveredWithin()).cameras(
        CAMERA, *(torch.tensor(v).double() for v in ([-25.0, 25.0], [0.0, 0.0], [4.0, 4.0]))
    )
    alone = covered_region(Numba(), wall, CAMERA, 4.0)
    accompanied = covered_region(Numba(), wall, Cameras.cat([CAMERA, beside]), 4.0)
    assert accompanied.azimuth[1] > alone.azimuth[1] + 5
    assert accompanied.azimuth[0] < alone.azimuth[0] - 5


def test_cameras_keep_the_target_at_its_place_in_the_picture():
    values = (
        torch.tensor(v).double() for v in ([0.0, 15.0, -20.0], [0.0, 5.0, -3.0], [4.0, 3.5, 4.5])
    )
    cameras = REGION.cameras(CAMERA, *values)
    pixels, depth = project(torch.tensor([REGION.target]), cameras)
    assert torch.allclose(pixels[:, 0], torch.tensor([10.0, 7.5]).expand(3, 2), atol=1e-4)
    assert torch.allclose(depth[:, 0], torch.tensor([4.0, 3.5, 4.5]), atol=1e-5)
    assert torch.allclose(cameras.world_to_camera[0], CAMERA.world_to_camera[0], atol=1e-6)


def test_positive_angles_move_the_camera_right_and_up():
    right, up = REGION.cameras(
        CAMERA, *(torch.tensor(v).double() for v in ([10.0, 0.0], [0.0, 10.0], [4.0, 4.0]))
    ).centers
    assert float(right[0]) > 0.5 and float(up[1]) < -0.5, "y points down"


def test_json_keeps_the_region():
    assert ViewRegion.from_dict(json.loads(json.dumps(REGION.to_dict()))) == REGION


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("azimuth", None),
        ("target", [0.0, 1.0]),
        ("distance", [1.0, "far"]),
        ("coverage", float("nan")),
    ],
)
def test_a_damaged_file_names_the_value(name, value):
    with pytest.raises(ValueError, match=name):
        ViewRegion.from_dict(REGION.to_dict() | {name: value})
