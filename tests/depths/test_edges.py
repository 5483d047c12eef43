"""Sharpened depth: steps at the edges of the picture."""

import cv2
import numpy as np
import pytest
import torch

from lift.depths.edges import SharpenedDepth, sharpen_depth, sharpen_inverse_depth
from lift.depths.edges_torch import sharpen_inverse_map, sharpen_steps
from lift.types import Depth
from tests.helpers.depth_pictures import build_depth, coffee, motorcycle


@pytest.mark.slow
def test_sharpening_concentrates_depth_changes_of_lite():
    estimate = build_depth("lite")
    for image in (motorcycle()[0], coffee()):
        soft, hard, outlines = (
            1 / made(image).depth
            for made in (estimate, SharpenedDepth(estimate), SharpenedDepth(estimate, 0.0))
        )

        def in_few(inverse):
            change = (inverse[:, 1:] - inverse[:, :-1]).abs().flatten()
            return float(change.topk(len(change) // 100).values.sum() / change.sum())

        assert in_few(hard) > 1.2 * in_few(soft)
        assert ((outlines - soft).abs() > 0.02).float().mean() < 0.05, (
            "steps that were hard already are a pixel wider, and that is all"
        )


def test_sharpening_follows_picture_edges_and_keeps_slopes():
    rng = np.random.default_rng(0)
    picture = np.full((60, 80, 3), 0.3, np.float32)
    picture[:, 43:] = 0.7
    picture += rng.normal(0, 0.01, picture.shape).astype(np.float32)
    truth = np.where(np.arange(80) < 43, 0.2, 0.8).astype(np.float32) * np.ones((60, 1), np.float32)
    soft = np.roll(cv2.GaussianBlur(truth, (0, 0), 3), -3, 1)  # and beside it
    soft[:, -3:] = 0.8
    hard = sharpen_inverse_depth(picture, soft, 6)
    assert np.abs(hard - truth)[10:-10, 25:60].max() < 0.1 and np.abs(soft - truth).max() > 0.4
    slope = np.linspace(0, 1, 80, dtype=np.float32) * np.ones((60, 1), np.float32)
    np.testing.assert_allclose(sharpen_inverse_depth(picture, slope, 6), slope, atol=0.02)


def test_layered_depth_has_no_values_between_two_surfaces():
    picture = torch.full((60, 80, 3), 70, dtype=torch.uint8)
    picture[20:40, 30:50] = 180
    truth = torch.full((60, 80), 4.0)
    truth[20:40, 30:50] = 2.0
    soft = 1 / torch.from_numpy(cv2.GaussianBlur((1 / truth).numpy(), (0, 0), 2))
    between = lambda depth: ((depth > 2.2) & (depth < 3.6)).float().mean()  # noqa: E731
    hard = sharpen_depth(picture, Depth(soft, soft > 0, "scale"), 5.0).depth
    assert between(soft) > 0.05 and between(hard) < 0.01
    assert (hard[19:41, 29:51] < 2.3).float().mean() > 0.97, "with its outline, a pixel wider"
    gap = truth.clone()
    gap[:, :20] = 0
    known = sharpen_depth(picture, Depth(gap, gap > 0, "metric"), 0.0)
    assert torch.equal(known.valid, gap > 0) and (known.depth[:, :20] == 0).all(), (
        "what is not known stays so"
    )
    wider = torch.nn.functional.max_pool2d((truth == 2.0).float()[None], 3, 1, 1)[0] > 0
    assert torch.equal(known.depth[:, 20:] == 2.0, wider[:, 20:])
    nothing = Depth(torch.zeros(8, 8), torch.zeros(8, 8, dtype=torch.bool), "metric")
    assert sharpen_depth(picture[:8, :8], nothing, 3.0) is nothing


def soft_square() -> tuple[torch.Tensor, Depth]:
    """A noisy picture of a square before a wall, with soft depth and a gap in it."""
    generator = torch.Generator().manual_seed(0)
    picture = torch.full((60, 80, 3), 70.0)
    picture[20:40, 30:50] = 180
    picture += 5 * torch.randn(60, 80, 3, generator=generator)
    truth = torch.full((60, 80), 4.0)
    truth[20:40, 30:50] = 2.0
    soft = 1 / torch.from_numpy(cv2.GaussianBlur((1 / truth).numpy(), (0, 0), 2))
    soft[:, :20] = 0
    return picture.byte(), Depth(soft, soft > 0, "scale")


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("radius", [0, 1, 5])
def test_sharpening_by_torch_equals_that_by_loops(device, radius):
    picture, depth = soft_square()
    inverse = depth.typical / depth.depth.where(depth.valid, depth.depth.max())
    rgb = picture.float() / 255
    arguments = (value.to(device) for value in (rgb, inverse, depth.valid))
    expected = depth.typical / sharpen_depth(picture, depth, float(radius)).depth
    found = sharpen_inverse_map(*arguments, radius).cpu()
    assert not torch.allclose(found, inverse, atol=0.01)
    torch.testing.assert_close(found[depth.valid], expected[depth.valid], atol=1e-4, rtol=0)
    if radius:
        steps = sharpen_steps(rgb.to(device), inverse.to(device), radius).cpu()
        loops = torch.from_numpy(sharpen_inverse_depth(rgb.numpy(), inverse.numpy(), radius))
        torch.testing.assert_close(steps, loops, atol=1e-4, rtol=0)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_sharpened_depth_stays_on_the_depths_device(device):
    picture, depth = soft_square()
    found = sharpen_depth(picture, depth, 5.0, device)
    assert found.depth.device.type == "cpu" and torch.equal(found.valid, depth.valid)
    assert (found.depth[:, :20] == 0).all(), "what is not known stays so"
    expected = sharpen_depth(picture, depth, 5.0)
    torch.testing.assert_close(found.depth, expected.depth, atol=1e-3, rtol=0)
