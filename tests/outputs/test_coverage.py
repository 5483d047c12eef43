"""Coverage separates views of observed content from views of unobserved content."""

import math

import pytest
import torch

from lift.geometry import look_at, pinhole
from lift.outputs.coverage import Coverage
from lift.renderers.reference import Reference
from lift.types import Cameras, Gaussians

CAMERA = pinhole(32, 32, 32.0)
DOWN = torch.tensor([0.0, 1.0, 0.0])


def plane(depth: float, half_width: float, spacing: float) -> torch.Tensor:
    """Points of a square that faces the camera at the origin."""
    side = torch.arange(-half_width, half_width + 1e-6, spacing)
    x, y = torch.meshgrid(side, side, indexing="ij")
    return torch.stack([x, y, torch.full_like(x, depth)], dim=-1).reshape(-1, 3)


def opaque(points: torch.Tensor, size: float) -> Gaussians:
    count = len(points)
    quats = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(count, 4).clone()
    scales = torch.full((count, 3), size)
    return Gaussians(points, quats, scales, torch.full((count,), 0.95), torch.zeros(count, 1, 3))


def camera_at(x: float, y: float = 0.0, z: float = 0.0, target: tuple = (0.0, 0.0, 4.0)) -> Cameras:
    pose = look_at(torch.tensor([x, y, z]), torch.tensor(target), DOWN)
    return Cameras(pose[None], CAMERA.intrinsics, 32, 32)


@pytest.fixture(scope="module")
def wall() -> Gaussians:
    return opaque(plane(4.0, half_width=4.0, spacing=0.2), 0.12)


def test_a_frames_own_view_is_covered(wall):
    assert float(Coverage(Reference(), wall, CAMERA)(CAMERA)) > 0.99


def test_what_lies_beside_the_frame_is_not_covered(wall):
    # The frame sees x in [-2, 2]. A view shifted by 1 sees [-1, 3]: three quarters overlap.
    shifted = camera_at(1.0, target=(1.0, 0.0, 4.0))
    assert float(Coverage(Reference(), wall, CAMERA)(shifted)) == pytest.approx(0.75, abs=0.04)
    both = Cameras.cat([CAMERA, camera_at(2.0, target=(2.0, 0.0, 4.0))])
    assert float(Coverage(Reference(), wall, both)(shifted)) > 0.99, "one of the frames is enough"


def test_holes_are_not_covered():
    small = opaque(
        plane(4.0, half_width=1.0, spacing=0.2), 0.12
    )  # the picture shows 4 x 4 units of its plane
    value = float(Coverage(Reference(), small, CAMERA)(CAMERA))
    assert 0.2 < value < 0.4
    nothing = opaque(torch.tensor([[0.0, 0.0, -5.0]]), 0.1)
    assert float(Coverage(Reference(), nothing, CAMERA)(CAMERA)) == 0.0


def test_what_is_hidden_from_the_frame_is_not_covered(wall):
    near = opaque(plane(2.0, half_width=0.5, spacing=0.1), 0.06)
    scene = Gaussians(
        **{name: torch.cat([value, near.tensors()[name]]) for name, value in wall.tensors().items()}
    )
    # The near square hides [-1, 1] of the wall, which a view from behind the square sees alone.
    inside = camera_at(0.0, z=2.5)
    assert float(Coverage(Reference(), scene, CAMERA)(inside)) < 0.1
    assert float(Coverage(Reference(), wall, CAMERA)(inside)) > 0.99


def test_a_direction_that_differs_much_is_not_covered(wall):
    def value(degrees: float) -> float:
        angle = math.radians(degrees)
        view = camera_at(3 * math.sin(angle), z=4 - 3 * math.cos(angle))
        near = Cameras(
            view.world_to_camera, CAMERA.intrinsics * torch.tensor([[4.0], [4.0], [1.0]]), 32, 32
        )
        return float(Coverage(Reference(), wall, CAMERA)(near))

    assert value(20) > 0.99 and value(45) < 0.01


def test_size_and_number_of_views_do_not_matter(wall):
    large = CAMERA.resized(640, 640)
    measured = Coverage(Reference(), wall, large)(Cameras.cat([large, large]))
    assert measured.shape == (2,) and float(measured.min()) > 0.99
