"""Gaussians straight from one depth map."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lift.geometry import pinhole, quat_to_rotation, rigid
from lift.renderers.reference import Reference
from lift.spherical_harmonics import C0
from lift.types import Cameras, Depth, Gaussians
from lift.warping import two_layers
from lift.warping.two_layers import Layer

WIDTH = 64
HEIGHT = 48
CAMERA = pinhole(WIDTH, HEIGHT, 60.0)
RED = (220, 30, 30)
BLUE = (20, 40, 200)
SQUARE = np.s_[14:34, 22:42]


@pytest.fixture(scope="module")
def square() -> tuple[np.ndarray, Depth]:
    """A red square at depth 1 in front of a blue wall at depth 2."""
    image = np.full((HEIGHT, WIDTH, 3), BLUE, np.uint8)
    depth = torch.full((HEIGHT, WIDTH), 2.0)
    image[SQUARE] = RED
    depth[SQUARE] = 1.0
    return image, Depth(depth, torch.ones_like(depth, dtype=torch.bool), "scale")


@pytest.fixture(scope="module")
def layers(square) -> list[Layer]:
    return two_layers.two_layers(*square, CAMERA)


def gaussians_of(layers: list[Layer], unit: float = 2.0) -> Gaussians:
    return Gaussians.cat([two_layers.layer_gaussians(layer, CAMERA, unit) for layer in layers])


def moved(x: float, y: float = 0.0) -> Cameras:
    pose = rigid(torch.eye(3), torch.tensor([-x, -y, 0.0]))
    return replace(CAMERA, world_to_camera=pose[None])


def test_the_background_continues_behind_an_object(layers):
    behind = layers[2]
    assert not behind.mask[:12].any() and not behind.mask[:, :20].any()
    assert behind.mask[SQUARE].all(), "the whole square is narrower than the motion"
    np.testing.assert_allclose(behind.inverse[SQUARE], 1.0, atol=0.03)
    assert np.abs(behind.rgb[SQUARE] - BLUE).max() < 25


def test_only_the_reach_of_the_motion_is_filled():
    image = np.full((HEIGHT, 4 * WIDTH, 3), BLUE, np.uint8)
    depth = torch.full((HEIGHT, 4 * WIDTH), 2.0)
    depth[:, : 2 * WIDTH] = 1.0
    camera = pinhole(4 * WIDTH, HEIGHT, 60.0)
    valid = torch.ones_like(depth, dtype=torch.bool)
    behind = two_layers.two_layers(image, Depth(depth, valid, "scale"), camera)[2]
    width = int(behind.mask[HEIGHT // 2].sum())
    # The typical depth is 1 or 2; the step of inverse depth is half a unit or a whole one.
    assert 5 < width < 2 * WIDTH
    assert behind.mask[HEIGHT // 2, 2 * WIDTH - 1] and not behind.mask[HEIGHT // 2, 0]


def test_a_view_from_beside_shows_the_background(layers):
    render = Reference()(gaussians_of(layers), moved(0.3))
    assert float(render.alpha.min()) > 0.9
    shift = round(60.0 * 0.3 * (1 / 1 - 1 / 2))
    revealed = render.rgb[0, 20:28, 42 - 18 : 42 - 18 + shift - 2]
    blue = torch.tensor(BLUE) / 255
    assert float((revealed - blue).abs().mean()) < 0.06


def test_no_gaussian_hangs_between_an_object_and_its_background(layers):
    picture = two_layers.layer_gaussians(layers[0], CAMERA, 2.0)
    z = picture.means[:, 2]
    assert set(z.round(decimals=4).tolist()) == {1.0, 2.0}
    rotation = quat_to_rotation(picture.quats)
    spread = (rotation[:, 2] ** 2 * picture.scales**2).sum(1).sqrt()
    assert float((spread / z).max()) < 0.01, "along the line of sight"


def test_gaussians_lie_in_a_slanted_surface():
    column = (torch.arange(WIDTH) + 0.5 - WIDTH / 2) / 60.0
    # The plane z = 2 + x, which is z = 2 / (1 - column) for a ray (column, row, 1).
    depth = (2 / (1 - column)).expand(HEIGHT, WIDTH)
    layer = Layer(
        np.zeros((HEIGHT, WIDTH, 3), np.float32),
        (1 / depth).numpy().astype(np.float32),
        np.ones((HEIGHT, WIDTH), bool),
    )
    gaussians = two_layers.layer_gaussians(layer, CAMERA, 1.0)
    normals = quat_to_rotation(gaussians.quats)[:, :, 2].reshape(HEIGHT, WIDTH, 3)[2:-2, 2:-2]
    expected = torch.tensor([1.0, 0.0, -1.0]) / 2**0.5
    assert float((normals @ expected).abs().min()) > 0.999


def test_a_gaussian_covers_its_pixel_in_the_input_view():
    layer = Layer(
        np.zeros((HEIGHT, WIDTH, 3), np.float32),
        np.full((HEIGHT, WIDTH), 0.5, np.float32),
        np.ones((HEIGHT, WIDTH), bool),
        sigma=0.4,
    )
    gaussians = two_layers.layer_gaussians(layer, CAMERA, 1.0)
    in_pixels = gaussians.scales[:, :2] * 60.0 / 2.0
    torch.testing.assert_close(in_pixels, torch.full_like(in_pixels, 0.4))


def test_the_world_of_the_camera_is_kept(layers):
    camera = moved(0.5, -0.25)
    here = two_layers.layer_gaussians(layers[0], CAMERA, 2.0)
    there = two_layers.layer_gaussians(layers[0], camera, 2.0)
    torch.testing.assert_close(there.means - here.means, camera.centers.expand_as(here.means))


def test_the_border_continues_the_picture(layers):
    border = layers[3]
    margin = border.margin // border.stride
    assert margin > 0
    assert border.mask[0].all() and not border.mask[margin + 4, margin + 4]
    assert np.abs(border.rgb[margin - 2, margin + 2 : -margin - 2] - BLUE).max() < 25
    colors = two_layers.layer_gaussians(border, CAMERA, 2.0).sh_coeffs[:, 0] * C0 + 0.5
    assert float(colors.min()) >= 0 and float(colors.max()) <= 1


def test_the_backdrop_is_behind_everything(layers):
    backdrop = two_layers.layer_gaussians(layers[4], CAMERA, 2.0)
    assert float(backdrop.means[:, 2].min()) > 2.0
    row, column = (side // 2 for side in layers[4].mask.shape)
    behind_square = layers[4].rgb[row - 1 : row + 1, column - 1 : column + 1]
    assert np.abs(behind_square - BLUE).mean() < 30, "it has the background's colour"


def test_a_flat_picture_has_no_second_layer():
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    ones = torch.ones(HEIGHT, WIDTH)
    layers = two_layers.two_layers(image, Depth(ones, ones > 0, "scale"), CAMERA)
    assert not layers[2].mask.any()
