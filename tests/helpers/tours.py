"""Camera paths through a scene."""

from functools import cache

import torch

from lift.geometry import look_at, pinhole
from lift.types import Cameras, Clip, Trajectory
from tests.helpers import walls

WIDTH, HEIGHT = 96, 72


@cache
def tour(width: int = WIDTH, height: int = HEIGHT, count: int = 4, step: float = 0.12):
    """A scene's input view, then a clip to the right and one from its end up, with exact frames."""
    start = pinhole(width, height, width * 0.9)
    down, target = torch.tensor([0.0, 1.0, 0.0]), torch.tensor([0.0, 0.0, 3.0])
    share = torch.arange(1, count + 1).float()[:, None] * step
    right = torch.tensor([1.0, 0.0, 0.0]) * share
    up = right[-1] + torch.tensor([0.0, -0.7, 0.3]) * share
    clips = []
    for label, source, eyes in (("right", 0, right), ("up", count, up)):
        views = look_at(eyes, target.expand_as(eyes), down.expand_as(eyes))
        clips.append(
            Clip(label, source, Cameras(views, start.intrinsics.expand(count, 3, 3), width, height))
        )
    trajectory = Trajectory(start, tuple(clips))
    return trajectory, walls.render(trajectory.cameras)
