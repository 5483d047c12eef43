"""Small pictures, cameras and scenes that the checks hand to components."""

import torch
from jaxtyping import UInt8
from torch import Tensor

from lift.geometry import pinhole
from lift.types import Cameras, Depth, Gaussians

WIDTH = 64
HEIGHT = 48
CAMERA = pinhole(WIDTH, HEIGHT, 60.0)
"""The input camera."""


def sample_picture() -> UInt8[Tensor, "height width 3"]:
    """Return a picture with waves."""
    y, x = torch.meshgrid(torch.linspace(0, 1, HEIGHT), torch.linspace(0, 1, WIDTH), indexing="ij")
    waves = torch.stack([x, y, 0.5 + 0.5 * (20 * x).sin() * (15 * y).cos()], dim=-1)
    return (waves * 255).to(torch.uint8)


def tilted_depth() -> Depth:
    """Return the depth of a plane that is nearer at the bottom, from 4 to 1.5."""
    depth = torch.linspace(4, 1.5, HEIGHT)[:, None].repeat(1, WIDTH)
    return Depth(depth, torch.ones_like(depth, dtype=torch.bool), "scale")


def sample_scene() -> Gaussians:
    """Return 40 Gaussians about the point (0, 0, 3), with colours of degree 1."""
    rng = torch.Generator().manual_seed(0)
    means = torch.randn(40, 3, generator=rng) * 0.5 + torch.tensor([0.0, 0, 3])
    quats = torch.nn.functional.normalize(torch.randn(40, 4, generator=rng), dim=-1)
    return Gaussians(
        means,
        quats,
        torch.full((40, 3), 0.1),
        torch.full((40,), 0.6),
        torch.randn(40, 4, 3, generator=rng),
    )


def repeat_camera(count: int) -> Cameras:
    """Return the input camera several times, in tensors of their own.

    Args:
        count: Number of cameras.
    """
    return CAMERA.map(lambda value: value.expand(count, *value.shape[1:]).clone())


def shifted_cameras(count: int, step: float = 0.05) -> Cameras:
    """Return cameras that move to the left, one step after the other, from the input.

    Args:
        count: Number of cameras. The first is one step from the input.
        step: Length of a step in scene units.
    """
    cameras = repeat_camera(count)
    cameras.world_to_camera[:, 0, 3] = step * torch.arange(1, count + 1)
    return cameras
