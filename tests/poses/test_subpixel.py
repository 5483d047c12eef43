"""Keypoints that are a pixel off are moved to where their pictures agree."""

import torch
from torch.nn.functional import interpolate

from lift.poses.sfm.state import Observations
from lift.poses.sfm.subpixel import UNREFINED_WEIGHT, refine_observations


def texture(height: int = 96, width: int = 128) -> torch.Tensor:
    """A smooth random picture, [height width], in [0, 255]."""
    noise = torch.rand(1, 1, height // 4, width // 4, generator=torch.Generator().manual_seed(0))
    return 255 * interpolate(noise, (height, width), mode="bicubic", align_corners=False)[0, 0]


def shifted(image: torch.Tensor, right: float, down: float) -> torch.Tensor:
    """The picture moved by a part of a pixel, through its Fourier transform."""
    height, width = image.shape
    y = torch.fft.fftfreq(height)[:, None]
    x = torch.fft.fftfreq(width)[None]
    turn = torch.exp(-2j * torch.pi * (x * right + y * down))
    return torch.fft.ifft2(torch.fft.fft2(image) * turn).real


def seen(points: torch.Tensor, move: torch.Tensor, noise: float) -> Observations:
    count = len(points)
    generator = torch.Generator().manual_seed(1)
    second = points + move + noise * torch.randn(count, 2, generator=generator, dtype=torch.float64)
    index = torch.arange(count)
    return Observations(
        torch.cat([torch.zeros(count, dtype=torch.long), torch.ones(count, dtype=torch.long)]),
        torch.cat([index, index]),
        torch.cat([points, second]),
        torch.ones(2 * count, dtype=torch.float64),
    )


def case(gain: float = 1.0, offset: float = 0.0, noise: float = 0.5):
    image = texture()
    move = torch.tensor([1.3, -0.6], dtype=torch.float64)
    other = gain * shifted(image, 1.3, -0.6) + offset
    pictures = torch.stack([image, other]).clamp(0, 255).round().to(torch.uint8)
    generator = torch.Generator().manual_seed(2)
    points = torch.rand(60, 2, generator=generator, dtype=torch.float64)
    points = points * torch.tensor([96.0, 64.0]) + 16
    return seen(points, move, noise), pictures[..., None].expand(-1, -1, -1, 3), move


def test_positions_are_found_to_a_twentieth_of_a_pixel():
    given, pictures, move = case()
    found = refine_observations(given, pictures)
    moved = found.pixel[60:] - found.pixel[:60] - move
    assert float(moved.norm(dim=-1).median()) < 0.05
    assert float((given.pixel[60:] - given.pixel[:60] - move).norm(dim=-1).median()) > 0.4
    assert float((found.weight == 1).double().mean()) > 0.8


def test_brightness_and_contrast_may_differ():
    given, pictures, move = case(gain=0.7, offset=30.0)
    found = refine_observations(given, pictures)
    moved = found.pixel[60:] - found.pixel[:60] - move
    assert float(moved.norm(dim=-1).median()) < 0.08


def test_observations_that_look_different_stay_and_count_less():
    given, pictures, _ = case()
    other = texture().flip(0, 1)[..., None].expand(-1, -1, 3).clamp(0, 255).round().to(torch.uint8)
    found = refine_observations(given, torch.stack([pictures[0], other]))
    low = found.weight < 1
    assert float(low.double().mean()) > 0.4
    assert found.pixel[low].equal(given.pixel[low])
    assert (found.weight[low] == UNREFINED_WEIGHT).all()
