"""A richly textured corner with a panel before it: rendered in a blink, with exact z-depth."""

import torch
from torch.nn.functional import grid_sample, interpolate

from lift.depths import DepthEstimator
from lift.geometry import unproject
from lift.types import Cameras, Depth, Frames

# corner, edge u, edge v: a parallelogram each
PLANES = torch.tensor(
    [
        [[-4.0, -3.0, 5.0], [8.0, 0.0, -1.0], [0.0, 6.0, 0.0]],
        [[-4.0, 1.1, 0.5], [8.0, 0.0, 0.0], [0.0, 0.0, 5.0]],
        [[-2.2, -3.0, 0.5], [0.0, 0.0, 5.0], [0.0, 6.0, 0.0]],
        [[0.1, -0.5, 2.4], [1.0, 0.0, 0.3], [0.0, 0.9, 0.0]],
    ]
)
FINER = 3
"""Rays a pixel's side."""


def _textures() -> torch.Tensor:
    """Noise of several scales: something to see near and far."""
    g = torch.Generator().manual_seed(0)
    total = torch.zeros(len(PLANES), 3, 512, 512)
    for cells, weight in ((6, 0.5), (24, 0.4), (96, 0.5), (256, 0.2)):
        grid = torch.rand(len(PLANES), 3, cells, cells, generator=g) - 0.5
        total += weight * interpolate(grid, (512, 512), mode="bicubic", align_corners=False)
    return (0.5 + 1.2 * total).clamp(0, 1)


def render(cameras: Cameras) -> Frames:
    """What the cameras see; black, and depth 0, where there is no wall."""
    textures = _textures()
    fine = cameras.resized(cameras.width * FINER, cameras.height * FINER)
    ones = torch.ones(len(cameras), fine.height, fine.width, dtype=torch.float64)
    rays = (
        unproject(ones, fine.to(torch.float64)) - cameras.centers.double()[:, None, None]
    )  # of z-depth 1
    nearest, color = torch.full_like(ones, torch.inf), torch.zeros(*ones.shape, 3)
    for plane, texture in zip(PLANES.double(), textures, strict=True):
        corner, u, v = plane
        inverse = torch.linalg.inv(torch.stack([u, v, torch.linalg.cross(u, v)], dim=1))
        start, step = (cameras.centers.double() - corner) @ inverse.T, rays @ inverse.T
        depth = -start[:, None, None, 2] / step[..., 2]
        place = start[:, None, None, :2] + depth[..., None] * step[..., :2]
        hit = (depth > 0) & (depth < nearest) & (place >= 0).all(-1) & (place <= 1).all(-1)
        seen = grid_sample(
            texture[None].expand(len(cameras), -1, -1, -1),
            place.float() * 2 - 1,
            align_corners=False,
        )
        color = torch.where(hit[..., None], seen.permute(0, 2, 3, 1), color)
        nearest = torch.where(hit, depth, nearest)
    middle = nearest[:, FINER // 2 :: FINER, FINER // 2 :: FINER]
    mean = torch.nn.functional.avg_pool2d(color.permute(0, 3, 1, 2), FINER).permute(0, 2, 3, 1)
    return Frames(
        (mean * 255).round().to(torch.uint8), torch.where(middle.isinf(), 0.0, middle).float()
    )


class Truth(DepthEstimator):
    """A depth estimator with an unknown scale and shift of inverse depth in each picture."""

    def __init__(self, frames: Frames) -> None:
        self.frames = frames

    def __call__(self, image: torch.Tensor) -> Depth:
        view = next(i for i, other in enumerate(self.frames.images) if torch.equal(image, other))
        depth = self.frames.depth[view]
        return Depth(
            1 / ((0.3 + 0.1 * view) / depth.clamp(min=1e-3) + 0.05 * view),
            depth > 0,
            "affine-invariant",
        )


class Flat(DepthEstimator):
    """Knows nothing."""

    def __call__(self, image: torch.Tensor) -> Depth:
        depth = torch.full(image.shape[:2], 20.0)
        return Depth(depth, depth > 0, "scale")
