"""Gaussians for tests of file formats."""

from dataclasses import replace

import torch
from torch.nn.functional import normalize

from lift.types import Cameras, Gaussians


def random_gaussians(count: int = 200, degree: int = 3, seed: int = 0) -> Gaussians:
    """Gaussians all about the origin, of any size and colour."""
    g = torch.Generator().manual_seed(seed)
    return Gaussians(
        torch.randn(count, 3, generator=g) * 3,
        normalize(torch.randn(count, 4, generator=g), dim=-1),
        (torch.randn(count, 3, generator=g) - 4).exp(),
        torch.rand(count, generator=g) * 0.98 + 0.01,
        torch.randn(count, (degree + 1) ** 2, 3, generator=g) * 0.3,
    )


def textured_wall(scale: float = 1.0, degree: int = 2) -> tuple[Gaussians, Cameras]:
    """A colourful wall of small Gaussians with far ones behind it, and a camera before it.

    All lengths are multiplied by `scale`.
    """
    g = torch.Generator().manual_seed(0)
    rows = torch.arange(48)
    y, x = (grid.flatten() / 24 - 1 for grid in torch.meshgrid(rows, rows, indexing="ij"))
    z = 3 + 0.3 * torch.sin(3 * x) * torch.cos(2 * y)
    wall = torch.stack([1.2 * x, 1.2 * y, z], dim=1)
    far = torch.randn(400, 3, generator=g) * 12 + torch.tensor([0.0, 0.0, 60.0])
    means = torch.cat([wall, far])
    count = len(means)
    sizes = torch.where(torch.arange(count)[:, None] < len(wall), 0.03, 2.0)
    colors = 0.5 + 0.5 * torch.sin(means * torch.tensor([4.0, 5.0, 3.0]))
    harmonics = torch.randn(count, (degree + 1) ** 2, 3, generator=g) * 0.03
    harmonics[:, 0] = (colors - 0.5) / 0.2820948
    gaussians = Gaussians(
        means * scale,
        normalize(torch.randn(count, 4, generator=g), dim=-1),
        sizes * (0.5 + torch.rand(count, 3, generator=g)) * scale,
        0.3 + 0.7 * torch.rand(count, generator=g),
        harmonics,
    )
    intrinsics = torch.tensor([[[96.0, 0, 48], [0, 96, 48], [0, 0, 1]]])
    return gaussians, Cameras(torch.eye(4)[None], intrinsics, 96, 96)


def without_view_dependence(gaussians: Gaussians) -> Gaussians:
    """The same Gaussians with harmonics of degree 0 only."""
    return replace(gaussians, sh_coeffs=gaussians.sh_coeffs[:, :1])


def photographed_scene(count: int = 60_000, degree: int = 0) -> tuple[Gaussians, Cameras]:
    """Gaussians as a default run leaves them: on surfaces, of sizes of some pixels, and a camera.

    Codes of fitted Gaussians are hardly compressible, and these are no more so.
    """
    g = torch.Generator().manual_seed(0)
    x, y = (torch.rand(2, count, generator=g) * 2 - 1) * torch.tensor([[1.1], [0.75]])
    layer = torch.randint(0, 3, (count,), generator=g)
    depth = (1 + 2.0 * layer) * (1.2 + 0.2 * torch.sin(5 * x) * torch.cos(4 * y))
    means = torch.stack([x * depth * 0.5, y * depth * 0.5, depth], dim=1)
    means = means + 0.002 * torch.randn(count, 3, generator=g)
    pixels = (0.5 * torch.randn(count, 3, generator=g)).exp()
    colors = 0.5 + 0.35 * torch.sin(means * torch.tensor([9.0, 11.0, 3.0]))
    harmonics = 0.05 * torch.randn(count, (degree + 1) ** 2, 3, generator=g)
    harmonics[:, 0] += (colors - 0.5) / 0.2820948
    gaussians = Gaussians(
        means,
        normalize(torch.randn(count, 4, generator=g), dim=-1),
        pixels * depth[:, None] / 512,
        torch.rand(count, generator=g).sqrt() * 0.98 + 0.01,
        harmonics,
    )
    intrinsics = torch.tensor([[[497.0, 0, 256], [0, 497, 172], [0, 0, 1]]])
    return gaussians, Cameras(torch.eye(4)[None], intrinsics, 512, 344)
