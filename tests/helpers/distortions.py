"""Distortions of five frames, and what they act on."""

import torch

from lift.distortions import distortions
from lift.geometry import pinhole
from lift.types import Cameras, Clip, Gaussians, PointCloud, Render, Trajectory

WIDTH, HEIGHT, VIEWS, EXTENT = 64, 48, 5, 3.0
CAMERA = pinhole(WIDTH, HEIGHT, 60.0)
ALL_VIEWS = torch.arange(VIEWS)


def branching_trajectory() -> Trajectory:
    """Two frames to the right, then one up from the second and one left from the input."""
    steps = [CAMERA.map(lambda value: value.clone()) for _ in range(4)]
    for camera, (x, y) in zip(steps, ((0.1, 0), (0.2, 0), (0.2, 0.1), (-0.1, 0)), strict=False):
        camera.world_to_camera[0, :2, 3] = -torch.tensor([x, y])
    return Trajectory(
        CAMERA,
        (
            Clip("right", 0, Cameras.cat(steps[:2])),
            Clip("right/up", 2, steps[2]),
            Clip("left", 0, steps[3]),
        ),
    )


def random_gaussians(count: int = 400) -> Gaussians:
    rng = torch.Generator().manual_seed(0)
    means = (torch.rand(count, 3, generator=rng) - 0.5) * torch.tensor(
        [2.5, 2.0, 2.0]
    ) + torch.tensor([0.0, 0, 3])
    quats = torch.nn.functional.normalize(torch.randn(count, 4, generator=rng), dim=-1)
    return Gaussians(
        means,
        quats,
        torch.full((count, 3), 0.05),
        torch.full((count,), 0.8),
        torch.randn(count, 1, 3, generator=rng),
    )


SUPPLIED = {
    "num_views": VIEWS,
    "extent": EXTENT,
    "size": (WIDTH, HEIGHT),
    "trajectory": branching_trajectory(),
    "points": PointCloud(random_gaussians().means, torch.full((400, 3), 0.5)),
}


def build_distortion(kind, **settings):
    return distortions.build({"name": kind, **settings}, **SUPPLIED)


def gradient_render() -> Render:
    rows, columns = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    rgb = torch.stack([columns / WIDTH, rows / HEIGHT, ((rows + columns) % 8) / 8], dim=-1).expand(
        VIEWS, -1, -1, -1
    )
    return Render(
        rgb.contiguous(), torch.ones(VIEWS, HEIGHT, WIDTH), torch.full((VIEWS, HEIGHT, WIDTH), 2.0)
    )
