"""CUDA kernels of the textured surface, compared with plain torch.

Without CUDA, Triton's interpreter runs them if Triton is installed.
"""

import pytest
import torch

from lift.geometry import pinhole, rigid
from lift.runtime.jit import can_use_triton
from lift.types import Cameras
from lift.warping.gpu import raster, shading
from lift.warping.gpu.surface import TensorSurface
from lift.warping.surface import camera_matrices
from tests.warping.test_gpu_surface import FOCAL, picture

pytest.importorskip("triton")

WIDTH, HEIGHT = 36, 28  # the interpreter is slow

BACK = (-0.25, 0.1, -0.4)
"""A camera that sees the picture's border, and beside the square a hole."""

AWAY = (0.3, 0.1, -0.5)
"""A camera that sees what no frame shows."""


def moved(*shifts: tuple[float, float, float]) -> Cameras:
    start = pinhole(WIDTH, HEIGHT, FOCAL / 2)
    poses = [rigid(torch.eye(3), -torch.tensor(shift, dtype=torch.float32)) for shift in shifts]
    intrinsics = start.intrinsics.expand(len(shifts), 3, 3)
    return Cameras(torch.stack(poses), intrinsics, WIDTH, HEIGHT)


@pytest.fixture
def surface(device: str) -> TensorSurface:
    """The picture, and a second frame that shows what is new from `BACK`."""
    image, depth = picture()
    surface = TensorSurface(depth.typical, 0.04)
    everywhere = torch.ones(HEIGHT, WIDTH, dtype=torch.bool, device=device)
    start, back = camera_matrices(moved((0, 0, 0), BACK))
    half = image[::2, ::2].to(device), depth.depth[::2, ::2].to(device)
    surface.add(*half, everywhere, *start)
    hole = surface.render(*back, WIDTH, HEIGHT).hole
    assert hole.any()
    green = torch.tensor([10, 200, 30], dtype=torch.uint8, device=device).expand(HEIGHT, WIDTH, 3)
    surface.add(green, torch.full((HEIGHT, WIDTH), 4.5, device=device), hole, *back)
    return surface


def use_triton(monkeypatch: pytest.MonkeyPatch, used: bool) -> None:
    for module in (raster, shading):
        monkeypatch.setattr(module, "can_use_triton", lambda *tensors: used)


@pytest.mark.parametrize("shift", [AWAY, (0.1, 0.0, 1.2), BACK])
def test_views_are_those_of_plain_torch(surface, monkeypatch, shift) -> None:
    matrices = camera_matrices(moved(shift))[0]
    views = []
    for used in (False, True):
        use_triton(monkeypatch, used)
        view = surface.render(*matrices, WIDTH, HEIGHT)
        assert torch.equal(surface.find_holes(*matrices, WIDTH, HEIGHT), view.hole)
        view.rgb = view.rgb.where(~view.hole[..., None], torch.full_like(view.rgb, 77.0))
        views.append((view, surface.antialias(view)))
    (expected, smooth), (found, found_smooth) = views
    same = found.cell == expected.cell
    assert same.float().mean() > 0.9995  # two surfaces may be equally near
    assert expected.hole.any() == (shift == AWAY)
    torch.testing.assert_close(found.inverse[same[1::2, 1::2]], expected.inverse[same[1::2, 1::2]])
    torch.testing.assert_close(found.uv[same], expected.uv[same], atol=2e-3, rtol=0)
    pixels = same[1::2, 1::2]
    torch.testing.assert_close(found.rgb[pixels], expected.rgb[pixels], atol=0.3, rtol=0)
    assert found.inverse[~found.hole].min() > 0.1
    assert torch.equal(found.front[pixels], expected.front[pixels])
    differs = ((found_smooth - smooth).abs() > 0.3).any(-1).float().mean()
    assert differs < 0.002
    assert ((smooth - expected.rgb).abs() > 1).any()  # something was antialiased


def test_large_triangles_are_left_to_torch(surface, monkeypatch) -> None:
    from lift.warping.gpu import surface_triton

    drawn = []
    plain = raster._draw_all
    monkeypatch.setattr(
        raster, "_draw_all", lambda *args: (drawn.append(len(args[1])), plain(*args))[1]
    )
    matrices = camera_matrices(moved((0.45, 0.05, 1.9)))[0]  # at the square's edge
    use_triton(monkeypatch, False)
    expected = surface.render(*matrices, WIDTH, HEIGHT)
    use_triton(monkeypatch, True)
    found = surface.render(*matrices, WIDTH, HEIGHT)
    everything, few = drawn
    assert 0 < few < everything / 4
    assert (found.cell == expected.cell).float().mean() > 0.9995
    corners, cells, flags, matrix, near, shape = surface._raster_arguments(*matrices, WIDTH, HEIGHT)
    keys, large = surface_triton.draw(corners, cells, flags, matrix, near, shape)
    assert large.any() and (keys == 0).any()


def test_an_empty_surface_is_a_hole(device) -> None:
    from lift.warping.gpu import surface_triton

    nothing = torch.zeros(0, 4, 3, device=device)
    cells = torch.zeros(0, 3, dtype=torch.int64, device=device)
    flags = torch.zeros(0, dtype=torch.uint8, device=device)
    matrix = torch.eye(3, 4, device=device)
    keys, large = surface_triton.draw(nothing, cells, flags, matrix, 0.1, (9, 11))
    assert len(large) == 0 and not keys.any()
    inverse, cell, uv = surface_triton.resolve(keys, nothing, cells, matrix, 0.1, (9, 11))
    assert (cell == -1).all() and not inverse.any() and not uv.any()


@pytest.mark.gpu
def test_a_gpu_uses_the_kernels(surface) -> None:
    assert can_use_triton(surface.corners)
