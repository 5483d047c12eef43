"""Small fits."""

import torch
from omegaconf import OmegaConf

from lift.config import Fit, resolve_fit
from lift.distortions.rigid import Rigid
from lift.geometry import look_at, pinhole
from lift.renderers.reference import Reference
from lift.training.module import SceneModule
from lift.training.splats import initialise
from lift.types import (
    Cameras,
    Clip,
    Frames,
    Gaussians,
    PointCloud,
    Reconstruction,
    Trajectory,
)

SIZE = 24


def ball(count: int = 150, seed: int = 0) -> Gaussians:
    rng = torch.Generator().manual_seed(seed)
    means = torch.randn(count, 3, generator=rng) * 0.4 + torch.tensor([0, 0, 3.0])
    quats = torch.tensor([1.0, 0, 0, 0]).repeat(count, 1)
    return Gaussians(
        means,
        quats,
        torch.full((count, 3), 0.12),
        torch.full((count,), 0.7),
        torch.randn(count, 1, 3, generator=rng),
    )


def scene(views: int = 4) -> tuple[Frames, Reconstruction]:
    """Frames of a ball of Gaussians, exactly as its cameras see it."""
    eyes = torch.stack(
        [torch.linspace(0, 1, views), torch.zeros(views), torch.zeros(views)], dim=-1
    )
    down, middle = (
        torch.tensor([0.0, 1, 0]).expand(views, 3),
        torch.tensor([0.0, 0, 3]).expand(views, 3),
    )
    cameras = Cameras(
        look_at(eyes, middle, down),
        pinhole(SIZE, SIZE, 24.0).intrinsics.repeat(views, 1, 1),
        SIZE,
        SIZE,
    )
    render = Reference()(ball(), cameras)
    images = (render.rgb.clamp(0, 1) * 255).round().to(torch.uint8)
    cloud = PointCloud(ball().means, torch.full_like(ball().means, 0.5))
    return Frames(images), Reconstruction(
        cameras, cloud, render.depth, (render.alpha > 0.5).float()
    )


def settings(**changes):
    small = {
        "steps": 20,
        "checkpoint_every": 5,
        "test_every": 3,
        "initial_gaussians": 100,
        "max_gaussians": 130,
        "log_every": 5,
        "coarse_to_fine": {"scales": [], "until": []},
    }
    return OmegaConf.merge(
        OmegaConf.structured(Fit),
        small,
        {"densify": {"start": 3, "every": 3, "noise_scale": 0.01}},
        changes,
    )


def module(how) -> SceneModule:
    frames, reconstruction = scene()
    start = initialise(reconstruction, how.initial_gaussians, resolve_fit(how).sh_degree)
    trajectory = Trajectory(
        reconstruction.cameras[0], (Clip("right", 0, reconstruction.cameras[1:]),)
    )
    distortion = Rigid(
        num_views=len(frames), extent=3.0, trajectory=trajectory, points=reconstruction.points
    )
    return SceneModule(start, distortion, Reference(), frames, reconstruction, how, 3.0, seed=7)


class KilledError(Exception):
    pass
