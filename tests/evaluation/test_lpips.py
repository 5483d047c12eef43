"""LPIPS of a mask, compared with the published package."""

import math

import pytest
import torch
from torch import nn

from lift.evaluation.lpips import LPIPS
from tests.helpers.picture_pairs import patch_mask, similar_pair, wave_picture


def stretch_matrix(coarse: int, fine: int) -> torch.Tensor:
    """The matrix [fine coarse] that stretches bilinearly, edges held."""
    at = ((torch.arange(fine) + 0.5) * coarse / fine - 0.5).clamp(0, coarse - 1)
    return (1 - (at[:, None] - torch.arange(coarse)).abs()).clamp(min=0)


def test_lpips_of_a_mask_is_of_its_pixels():
    chance = torch.Generator().manual_seed(0)
    shapes = {
        0: (64, 3, 11, 4, 2),
        3: (192, 64, 5, 1, 2),
        6: (384, 192, 3, 1, 1),
        8: (256, 384, 3, 1, 1),
        10: (256, 256, 3, 1, 1),
    }
    net = nn.Sequential(*(nn.Conv2d(i, o, k, s, p) for o, i, k, s, p in shapes.values()))
    for conv in net:
        conv.weight.data.normal_(0, (2 / conv.weight[0].numel()) ** 0.5, generator=chance)
        conv.bias.data.normal_(0, 0.1, generator=chance)
    trunk = {
        f"features.{n}.{kind}": value.detach()
        for n, conv in zip(shapes, net, strict=False)
        for kind, value in conv.named_parameters()
    }
    heads = {
        f"lin{n}.model.1.weight": torch.rand(1, o, 1, 1, generator=chance)
        for n, (o, *_) in enumerate(shapes.values())
    }
    measure, (a, b), mask = LPIPS(trunk, heads), similar_pair(40, 52), patch_mask()
    values = torch.stack([a, b]).clamp(0, 1).permute(0, 3, 1, 2)
    values = (2 * values - 1 - measure.shift[:, None, None]) / measure.scale[:, None, None]
    spread = torch.zeros(40, 52)
    for number, (conv, head) in enumerate(zip(net, heads.values(), strict=False)):
        values = nn.Sequential(*[nn.MaxPool2d(3, 2)] * (number in (1, 2)), conv, nn.ReLU())(values)
        units = nn.functional.normalize(values, dim=1)
        there = ((units[0] - units[1]).square() * head[0]).sum(0)
        spread = (
            spread
            + stretch_matrix(there.shape[0], 40) @ there @ stretch_matrix(there.shape[1], 52).T
        )
    spread = spread.detach()
    assert measure(a, b, mask) == pytest.approx(float(spread[mask].mean()), rel=1e-4)
    assert measure(a, b, ~mask) == pytest.approx(float(spread[~mask].mean()), rel=1e-4)
    assert measure(a, b, mask) != pytest.approx(measure(a, b, ~mask), rel=1e-3)
    assert measure(a, b, torch.ones_like(mask)) == pytest.approx(measure(a, b), rel=0.02)
    assert math.isnan(measure(a, b, torch.zeros_like(mask)))


def test_lpips_of_a_mask_is_the_published_one(shared):
    """Compare with the mean map of the package lpips 0.1.4, same weights, `spatial=True`."""
    net = LPIPS.load(shared / "weights" / "lpips_backbones")
    picture, mask = wave_picture(), torch.zeros(64, 96, dtype=torch.bool)
    mask[:40, 31:] = True
    assert net(picture, picture.roll(5, 1), mask) == pytest.approx(0.0876086, abs=1e-6)
    assert net(picture, picture.roll(5, 1), torch.ones_like(mask)) == pytest.approx(
        net(picture, picture.roll(5, 1)), rel=1e-4
    )
