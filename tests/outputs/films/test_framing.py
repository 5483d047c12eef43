"""Films of any aspect show a part of the input's picture that has the subject."""

import pytest
import torch

from lift.geometry import pinhole, project
from lift.outputs.films.framing import choose_frame


def depth_with_object(column: slice, row: slice = slice(10, 30)) -> torch.Tensor:
    """A wall at 5 above a floor that comes near, and an object at 2 in front of them."""
    depth = torch.full((40, 60), 5.0)
    depth[30:] = torch.linspace(5, 1.5, 10)[:, None]
    depth[row, column] = 2.0
    return depth


def crop(aspect: float, depth: torch.Tensor):
    return choose_frame(600, 400, aspect, None, depth, torch.ones_like(depth, dtype=torch.bool))


@pytest.mark.parametrize(
    ("aspect", "size", "expected"),
    [
        (16 / 9, 1080, (1920, 1080)),
        (9 / 16, 1080, (1080, 1920)),
        (1.0, 1080, (1080, 1080)),
        (None, 720, (1080, 720)),
        (None, None, (600, 400)),
        (1.0, None, (400, 400)),
        (2.39, 100, (240, 100)),
    ],
)
def test_size_is_that_of_the_shorter_side(aspect, size, expected):
    frame = choose_frame(600, 400, aspect, size)
    assert (frame.width, frame.height) == expected


@pytest.mark.parametrize("aspect", [9 / 16, 1.0, 4 / 3, 16 / 9, 2.39])
def test_a_film_never_looks_outside_the_picture(aspect):
    for column in (slice(0, 8), slice(52, 60)):
        frame = crop(aspect, depth_with_object(column))
        assert frame.left >= -1e-6 and frame.left + frame.crop_width <= 600 + 1e-6
        assert frame.top >= -1e-6 and frame.top + frame.crop_height <= 400 + 1e-6
        assert frame.crop_width == pytest.approx(600) or frame.crop_height == pytest.approx(400)


@pytest.mark.parametrize("column", [slice(3, 15), slice(45, 58)])
def test_a_portrait_film_keeps_the_subject(column):
    frame = crop(9 / 16, depth_with_object(column))
    assert frame.left <= 10 * column.start and frame.left + frame.crop_width >= 10 * column.stop


def test_without_a_subject_the_part_is_central():
    flat = torch.full((40, 60), 5.0)
    floor = depth_with_object(slice(0, 0))
    for depth in (flat, floor):
        assert crop(9 / 16, depth).center == pytest.approx((300, 200))


def test_noise_does_not_move_the_part():
    noisy = torch.full((40, 60), 5.0)
    noisy[3, 57] = 2.0
    assert crop(1.0, noisy).center[0] == pytest.approx(300, abs=20)


def test_cut_cameras_show_the_part():
    frame = crop(9 / 16, depth_with_object(slice(45, 58)))
    camera = pinhole(600, 400, 500.0)
    points = torch.randn(20, 3) * 0.3 + torch.tensor([0.0, 0.0, 4.0])
    before = project(points, camera)[0][0]
    after = project(points, frame.cut(camera))[0][0]
    scale = torch.tensor([frame.width / frame.crop_width, frame.height / frame.crop_height])
    expected = (before - torch.tensor([frame.left, frame.top])) * scale
    assert torch.allclose(after, expected, atol=1e-3)
