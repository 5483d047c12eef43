"""Films larger than the frames show no needles, smaller ones do not flicker, kinds have colours."""

import numpy as np
import pytest
import torch

from lift.geometry import pinhole
from lift.outputs.films.rendering import (
    film_frames,
    limit_detail,
    normals_from_depth,
    supersampling,
)
from lift.renderers import EPS2D
from lift.types import Cameras, Gaussians, Render

FRAMES = pinhole(32, 24, 32.0)


def one_gaussian(scale: float, depth: float = 4.0) -> Gaussians:
    return Gaussians(
        torch.tensor([[0.0, 0.0, depth]]),
        torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
        torch.full((1, 3), scale),
        torch.ones(1),
        torch.zeros(1, 1, 3),
    )


def flat(depths: dict[float, float]):
    """Renders a wall whose depth depends on the position of the camera along x."""

    def render(gaussians: Gaussians, camera: Cameras) -> Render:
        shape = (1, camera.height, camera.width)
        depth = torch.full(shape, depths[round(float(camera.centers[0, 0]), 3)])
        ramp = torch.linspace(0, 1, camera.width).expand(shape)
        return Render(ramp[..., None].expand(*shape, 3), torch.ones(shape), depth)

    return render


def cameras_along_x(*positions: float) -> Cameras:
    poses = torch.eye(4).repeat(len(positions), 1, 1)
    poses[:, 0, 3] = -torch.tensor(positions)
    intrinsics = FRAMES.intrinsics.expand(len(positions), 3, 3)
    return Cameras(poses, intrinsics, FRAMES.width, FRAMES.height)


def test_a_thin_gaussian_looks_as_wide_as_in_the_frames():
    film = FRAMES.resized(128, 96)
    wide = limit_detail(one_gaussian(1e-4), FRAMES, film)
    # Variance in squared pixels of the frame: that of the Gaussian and that of the renderer.
    in_film = (float(wide.scales[0, 0]) * 128 / 4) ** 2 + EPS2D
    in_frames = (1e-4 * 32 / 4) ** 2 + EPS2D
    assert in_film / 4**2 == pytest.approx(in_frames, rel=1e-3)


def test_the_nearest_frame_limits_the_detail():
    near = cameras_along_x(0.0, 0.0)
    near.world_to_camera[1, 2, 3] = -3.0
    film = FRAMES.resized(128, 96)
    alone = limit_detail(one_gaussian(1e-4), FRAMES, film).scales
    both = limit_detail(one_gaussian(1e-4), near, film).scales
    assert float(both.max()) == pytest.approx(float(alone.max()) / 4, rel=1e-3)


def test_a_film_as_large_as_the_frames_changes_nothing():
    gaussians = one_gaussian(1e-4)
    assert limit_detail(gaussians, FRAMES, FRAMES) is gaussians


@pytest.mark.parametrize(("width", "expected"), [(64, 1), (32, 1), (16, 2), (12, 3), (4, 4)])
def test_small_films_render_more_pixels(width, expected):
    assert supersampling(FRAMES, FRAMES.resized(width, width * 3 // 4)) == expected


def test_small_films_average_pixels():
    film = FRAMES.resized(8, 6)
    picture = next(film_frames(flat({0.0: 4.0}), one_gaussian(0.1), film, FRAMES))
    ramp = np.linspace(0, 255, 32).reshape(8, 4).mean(1)
    assert picture.shape == (6, 8, 3) and np.abs(picture[0, :, 0] - ramp).max() < 1


def test_the_colours_of_depth_are_constant_over_the_film():
    render = flat({0.0: 2.0, 1.0: 4.0, 2.0: 8.0})
    film = cameras_along_x(0.0, 1.0, 2.0, 1.0)
    near, middle, far, again = film_frames(render, one_gaussian(0.1), film, FRAMES, "depth")
    assert near[0, 0, 0] > near[0, 0, 2] and far[0, 0, 2] > far[0, 0, 0], "near is red, far is blue"
    assert (middle == again).all() and (middle != near).any()


def test_pixels_without_surface_are_black_in_depth_films():
    def render(gaussians: Gaussians, camera: Cameras) -> Render:
        shape = (1, camera.height, camera.width)
        alpha = torch.ones(shape)
        alpha[..., :5] = 0
        return Render(torch.ones(*shape, 3), alpha, 4 * alpha)

    picture = next(film_frames(render, one_gaussian(0.1), FRAMES, FRAMES, "depth"))
    assert (picture[:, :5] == 0).all() and picture[:, 5:].max(-1).min() > 0


def slanted(slope: float) -> torch.Tensor:
    """Depth of a plane that recedes to the right: z = 4 + slope * x."""
    x = (torch.arange(32) + 0.5 - 16) / 32
    return (4 / (1 - slope * x)).expand(24, 32)


def test_normals_of_planes_are_exact():
    for slope in (0.0, 0.5, -0.8):
        normals = normals_from_depth(slanted(slope)[None], FRAMES)
        expected = torch.tensor([slope, 0.0, -1.0])
        expected = expected / expected.norm()
        assert torch.allclose(normals, expected.expand(24, 32, 3), atol=1e-3)


def test_a_step_of_depth_does_not_tilt_normals():
    depth = torch.full((1, 24, 32), 2.0)
    depth[..., 16:] = 6.0
    normals = normals_from_depth(depth, FRAMES)
    assert float(-normals[..., 2].min()) > 0 and float((-normals[..., 2]).min()) > 0.9


def test_normals_are_painted_by_their_direction():
    def render(gaussians: Gaussians, camera: Cameras) -> Render:
        shape = (1, camera.height, camera.width)
        return Render(torch.zeros(*shape, 3), torch.ones(shape), slanted(-1.0)[None])

    picture = next(film_frames(render, one_gaussian(0.1), FRAMES, FRAMES, "normal"))
    red, green, blue = picture[12, 16].tolist()
    assert red < 60 and abs(green - 128) <= 2 and blue > 200, "it faces left and the camera"
