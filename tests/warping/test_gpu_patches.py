"""Filling with patches, and continuing a picture, on tensors."""

import numpy as np
import pytest
import torch
from torch import Tensor

from lift.warping import border, patches
from lift.warping.gpu.border import extend_picture
from lift.warping.gpu.masks import dilate, nearest_source
from lift.warping.gpu.patches import fill_with_patches

pytestmark = pytest.mark.parametrize("place", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])

HEIGHT, WIDTH = 75, 98
"""Odd at some level of the pyramid."""


def texture() -> np.ndarray:
    """Return a picture of vertical waves with a little noise."""
    wave = 60 * np.sin(np.arange(WIDTH) / 3)
    noise = np.random.default_rng(0).normal(0, 4, (HEIGHT, WIDTH, 3))
    return (120 + wave[..., None] + noise).astype(np.float32)


def holes() -> np.ndarray:
    """Return a hole inside the picture and one at its border."""
    hole = np.zeros((HEIGHT, WIDTH), bool)
    hole[25:42, 30:52] = True
    hole[60:, 80:] = True
    return hole


def smooth(picture: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Return the picture with the mean colour in its holes."""
    return np.where(hole[..., None], picture[~hole].mean(0), picture).astype(np.float32)


def on(place: str, *arrays: np.ndarray) -> list[Tensor]:
    """Return tensors on a device."""
    return [torch.from_numpy(np.ascontiguousarray(a)).to(place) for a in arrays]


def no_pixel() -> np.ndarray:
    """Return an empty mask."""
    return np.zeros((HEIGHT, WIDTH), bool)


def flat() -> np.ndarray:
    """Return the inverse depth of a wall."""
    return np.ones((HEIGHT, WIDTH), np.float32)


def psnr(picture: np.ndarray, truth: np.ndarray, where: np.ndarray) -> float:
    """Compute the PSNR of some pixels in dB."""
    error = (picture.astype(float) - truth.astype(float))[where]
    return 10 * np.log10(255**2 / np.mean(error**2))


def test_known_pixels_are_unchanged(place):
    hole = holes()
    rgb = smooth(texture(), hole)
    filled = fill_with_patches(*on(place, rgb, flat(), hole, no_pixel()))
    assert (filled.cpu().numpy()[~hole] == rgb[~hole]).all()


def test_texture_continues_as_well_as_on_the_cpu(place):
    hole = holes()
    rgb = smooth(texture(), hole)
    filled = fill_with_patches(*on(place, rgb, flat(), hole, no_pixel())).cpu().numpy()
    reference = patches.fill_with_patches(rgb, flat(), hole, no_pixel())
    quality = psnr(filled, texture(), hole)
    assert quality > psnr(rgb, texture(), hole) + 6
    assert quality > psnr(reference, texture(), hole) - 2


def test_two_runs_give_equal_pictures(place):
    hole = holes()
    given = on(place, smooth(texture(), hole), flat(), hole, no_pixel())
    assert torch.equal(fill_with_patches(*given), fill_with_patches(*given))


def test_nothing_is_copied_from_nearer_pixels(place):
    hole = holes()
    nearer = no_pixel()
    nearer[5:24, 20:60] = True
    picture = texture() / 2
    picture[nearer] = 250
    rgb = np.where(hole[..., None], 100, picture).astype(np.float32)
    filled = fill_with_patches(*on(place, rgb, flat(), hole, nearer)).cpu().numpy()
    assert filled[hole].max() <= picture[~nearer & ~hole].max()


def test_patches_come_from_similar_depth(place):
    hole = no_pixel()
    hole[28:48, 40:60] = True
    inverse = flat()
    inverse[:, :50] = 3.0
    picture = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    picture[:, :50, 0] = 200
    picture[:, 50:, 2] = 200
    filled = fill_with_patches(*on(place, smooth(picture, hole), inverse, hole, no_pixel()))
    filled = filled.cpu().numpy()
    assert (filled[28:48, 40:46, 0] > filled[28:48, 40:46, 2]).all()
    assert (filled[28:48, 54:60, 2] > filled[28:48, 54:60, 0]).all()


def test_search_starts_from_given_matches(place):
    hole = no_pixel()
    hole[30:34, 70:74] = True
    rng = np.random.default_rng(1)
    picture = rng.uniform(0, 255, (HEIGHT, WIDTH, 3)).astype(np.float32)
    picture[20:46, 60:86] = picture[20:46, 10:36]
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    start = np.stack([rows, columns - 50], 2).clip(0)
    given = on(place, smooth(picture, hole), flat(), hole, no_pixel(), start)
    filled = fill_with_patches(*given, sweeps=(1, 1)).cpu().numpy()
    assert np.allclose(filled[hole], picture[hole], atol=1e-3)


def test_picture_without_holes_is_unchanged(place):
    filled = fill_with_patches(*on(place, texture(), flat(), no_pixel(), no_pixel()))
    assert (filled.cpu().numpy() == texture()).all()


def test_picture_without_source_stays_smooth(place):
    hole = holes()
    rgb = smooth(texture(), hole)
    filled = fill_with_patches(*on(place, rgb, flat(), hole, ~hole)).cpu().numpy()
    assert (filled == rgb).all()
    assert (patches.fill_with_patches(rgb, flat(), hole, ~hole) == rgb).all()


@pytest.mark.parametrize("count", [1, 40])
def test_nearest_source_equals_brute_force(place, count):
    rng = np.random.default_rng(count)
    source = no_pixel()
    source.ravel()[rng.choice(source.size, count, replace=False)] = True
    nearest = nearest_source(*on(place, source)).cpu().numpy()
    assert source[nearest[..., 0], nearest[..., 1]].all()
    pixels = np.stack(np.mgrid[:HEIGHT, :WIDTH], 2)
    distance = np.linalg.norm(nearest - pixels, axis=2)
    all_distances = np.linalg.norm(np.argwhere(source)[:, None, None] - pixels, axis=3)
    assert np.allclose(distance, all_distances.min(0))


def test_nearest_source_of_some_pixels_is_that_of_the_map(place):
    (source,) = on(place, np.random.default_rng(2).uniform(size=(HEIGHT, WIDTH)) > 0.99)
    pixels = (~source).nonzero()[::7]
    expected = nearest_source(source)[pixels[:, 0], pixels[:, 1]]
    assert torch.equal(nearest_source(source, pixels), expected)


@pytest.mark.parametrize("radius", [1, 3, 10])
def test_dilation_equals_that_of_the_cpu(place, radius):
    mask = np.random.default_rng(3).uniform(size=(HEIGHT, WIDTH)) > 0.995
    assert (dilate(*on(place, mask), radius).cpu().numpy() == patches.dilate(mask, radius)).all()


def small_view() -> tuple[np.ndarray, np.ndarray]:
    """Return a small picture, and its depth with noise and a step."""
    image = np.clip(texture()[:48, :60], 0, 255).astype(np.uint8)
    depth = np.random.default_rng(4).uniform(2.0, 2.1, (48, 60)).astype(np.float32)
    depth[:, 30:] += 3
    return image, depth


def test_extension_keeps_the_picture_and_continues_its_depth(place):
    image, depth = small_view()
    wide, wide_depth = (a.cpu().numpy() for a in extend_picture(*on(place, image, depth), 8))
    assert (wide[8:-8, 8:-8] == image).all()
    assert (wide_depth == border.extend_picture(image, depth, 8)[1]).all()


def test_extension_continues_texture_as_on_the_cpu(place):
    truth = np.clip(texture(), 0, 255).astype(np.uint8)
    image, depth = (a[12:-12, 12:-12] for a in (truth, flat()))
    outside = ~no_pixel()
    outside[12:-12, 12:-12] = False
    wide, _ = extend_picture(*on(place, image, depth), 12)
    reference, _ = border.extend_picture(image, depth, 12)
    assert psnr(wide.cpu().numpy(), truth, outside) > psnr(reference, truth, outside) - 2


@pytest.mark.parametrize("margin", [1, 5])
def test_margins_narrower_than_the_rings_are_filled(place, margin):
    image, depth = small_view()
    wide, wide_depth = extend_picture(*on(place, image, depth), margin)
    assert wide.shape == (48 + 2 * margin, 60 + 2 * margin, 3)
    assert wide_depth.shape == wide.shape[:2]
