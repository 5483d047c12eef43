"""Observations of random points, with the scene that they come from."""

from dataclasses import replace

import torch

from lift.geometry import rotation_from_vector
from lift.poses.sfm.state import Observations, SfmState

FOCAL = 500.0


def observed_scene(
    frames: int = 12,
    points: int = 400,
    shown: float = 0.5,
    noise: float = 0.3,
    wrong: float = 0.1,
    aside: float = 0.6,
    seed: int = 0,
):
    """A scene, what its frames show of it, and which observations are wrong."""
    g = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)  # noqa: E731
    at = normal(points, 3) + torch.tensor([0.0, 0.0, 6.0], dtype=torch.float64)
    rotation, centers = rotation_from_vector(0.1 * normal(frames, 3)), aside * normal(frames, 3)
    rotation[0], centers[0] = torch.eye(3), 0
    scene = SfmState(
        rotation,
        -(rotation @ centers[..., None])[..., 0],
        torch.full((frames,), FOCAL, dtype=torch.float64).log(),
        torch.full((frames, 2), 300.0, dtype=torch.float64),
        torch.zeros(frames, dtype=torch.float64),
        at,
        torch.ones(frames, dtype=torch.bool),
    )
    frame, point = (torch.rand(frames, points, generator=g) < shown).nonzero().unbind(-1)
    seen = Observations(
        frame,
        point,
        torch.zeros(len(frame), 2, dtype=torch.float64),
        torch.ones(len(frame), dtype=torch.float64),
    )
    _, pixel = scene.reproject(seen)
    bad = torch.rand(len(frame), generator=g) < wrong
    pixel = pixel + noise * normal(len(frame), 2) + bad[:, None] * 60 * normal(len(frame), 2)
    return scene, replace(seen, pixel=pixel), bad
