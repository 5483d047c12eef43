"""A file that is read back renders as the scene that was written."""

import pytest
import torch

from lift.io.splats import FORMATS, SPLAT_FORMATS, decode, encode, read_splats
from lift.renderers import renderers
from lift.types import Cameras, Gaussians
from tests.helpers.splats import random_gaussians, textured_wall, without_view_dependence


def render(gaussians: Gaussians, cameras: Cameras) -> torch.Tensor:
    renderer = renderers.build({"name": "numba"}, device=torch.device("cpu"))
    return renderer(gaussians, cameras).rgb.clamp(0, 1)


def psnr(gaussians: Gaussians, format: str, cameras: Cameras) -> float:
    expected = render(gaussians, cameras)
    assert expected.std() > 0.1  # there is something to see
    decoded = render(decode(encode(gaussians, format), format), cameras)
    return float(-10 * (expected - decoded).square().mean().clamp(min=1e-20).log10())


@pytest.mark.parametrize("format", SPLAT_FORMATS)
def test_renders_of_a_file_and_of_the_scene_agree(format):
    gaussians, cameras = textured_wall()
    if format == "splat":
        gaussians = without_view_dependence(gaussians)
    assert psnr(gaussians, format, cameras) >= (100 if FORMATS[format].lossless else 35)


@pytest.mark.parametrize("format", SPLAT_FORMATS)
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_size_of_a_scene_does_not_matter(format, scale):
    gaussians, cameras = textured_wall(scale, degree=0)
    if "spz" in format:
        with pytest.raises(ValueError, match="spz holds scales of at (least|most) .*; choose"):
            encode(gaussians, format)
    else:
        assert psnr(gaussians, format, cameras) >= 35


def test_a_scene_of_a_thousand_units_fits_into_spz():
    gaussians, cameras = textured_wall(100.0, degree=0)
    assert psnr(gaussians, "spz", cameras) >= 35


def test_glb_gives_back_every_number():
    before = random_gaussians(50)
    after = decode(encode(before, "glb"), "glb")
    for name, value in before.tensors().items():
        assert torch.equal(getattr(after, name), value), name


@pytest.mark.parametrize("format", ["compressed.ply", "sog"])
def test_sorted_formats_keep_every_gaussian_once(format, tmp_path):
    before = random_gaussians(3000, degree=1)
    (tmp_path / f"a.{format}").write_bytes(encode(before, format))
    after = read_splats(tmp_path / f"a.{format}")
    distances = torch.cdist(before.means, after.means)
    assert sorted(distances.argmin(1).tolist()) == list(range(3000))
    assert distances.min(1).values.max() < 0.02


def test_a_palette_of_many_harmonics_is_close_to_them():
    """From 1025 Gaussians on, the palette of SOG has fewer entries than there are Gaussians."""
    smooth = random_gaussians(3000, degree=2)
    position = smooth.means[:, :1, None] / 10
    smooth.sh_coeffs[:, 1:] = position * torch.linspace(0.2, 1, 8)[:, None]
    prepared = FORMATS["sog"].prepare(smooth)
    after = decode(encode(smooth, "sog"), "sog")
    error = (after.sh_coeffs - prepared.sh_coeffs)[:, 1:].square().mean().sqrt()
    assert error < 0.02 * prepared.sh_coeffs[:, 1:].std()
