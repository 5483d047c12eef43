"""The first look at a scene, before its fit."""

import pytest
import torch

from lift.camera_paths import orbit_cameras
from lift.geometry import pinhole
from lift.renderers import Renderer, renderers
from lift.stages.preview import make_preview
from lift.types import Depth, Gaussians

WIDTH = 96
HEIGHT = 64
CAMERA = pinhole(WIDTH, HEIGHT, 90.0)


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return renderers.build({"name": "numba"})


@pytest.fixture(scope="module")
def picture() -> tuple[torch.Tensor, Depth]:
    """A textured disc in front of a textured wall, with a gap in its depth."""
    row, column = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    waves = torch.stack([torch.sin(column / 5), torch.cos(row / 4), torch.sin((row + column) / 6)])
    image = (127 + 90 * waves.permute(1, 2, 0)).round().to(torch.uint8)
    disc = (row - 32) ** 2 + (column - 48) ** 2 < 18**2
    image[disc] = 255 - image[disc]
    depth = torch.where(disc, 1.5, 3.0)
    valid = torch.ones_like(disc)
    valid[:6, :10] = False
    return image, Depth(depth, valid, "scale")


@pytest.fixture(scope="module")
def preview(picture, renderer) -> Gaussians:
    return make_preview(*picture, CAMERA, renderer)


def psnr(image: torch.Tensor, rgb: torch.Tensor) -> float:
    return float(-10 * torch.log10((image.float() / 255 - rgb.clamp(0, 1)).square().mean()))


def test_the_input_view_is_the_picture(picture, preview, renderer):
    assert psnr(picture[0], renderer(preview, CAMERA).rgb[0]) > 30


def test_colours_are_corrected_for_the_blur(picture, preview, renderer):
    plain = make_preview(*picture, CAMERA)
    before = psnr(picture[0], renderer(plain, CAMERA).rgb[0])
    assert psnr(picture[0], renderer(preview, CAMERA).rgb[0]) > before + 1


@pytest.mark.parametrize("offset", [(20.0, 0.0), (-20.0, 0.0), (0.0, 20.0), (0.0, -20.0)])
def test_views_from_beside_have_no_holes(preview, renderer, offset):
    cameras = orbit_cameras(CAMERA, torch.tensor([(*offset, 0.0)]), 3.0)
    assert float(renderer(preview, cameras).alpha.min()) > 0.9


def test_a_magnified_view_has_no_gaps_within_surfaces(preview, renderer):
    render = renderer(preview, CAMERA.resized(4 * WIDTH, 4 * HEIGHT))
    assert float(render.alpha.min()) > 0.9


def test_values_can_be_written_to_any_file(preview):
    for value in preview.tensors().values():
        assert value.isfinite().all()
    assert preview.sh_degree == 0
    assert (preview.scales > 0).all()
    torch.testing.assert_close(preview.quats.norm(dim=1), torch.ones(len(preview)))
