"""Frames of two branches of a plan, with known cameras."""

from dataclasses import replace

import pytest
import torch

from lift.geometry import look_at, pinhole, rigid, rotation_from_vector
from lift.types import Cameras, Clip, Frames, Trajectory
from tests.helpers import walls

NOISE, SIZE = 6, (320, 240)


def around(start: Cameras, eyes: torch.Tensor) -> Cameras:
    views = look_at(
        eyes,
        torch.tensor([0.0, 0.0, 3.0]).expand_as(eyes),
        torch.tensor([0.0, 1.0, 0.0]).expand_as(eyes),
    )
    return Cameras(views, start.intrinsics.expand(len(eyes), 3, 3), start.width, start.height)


@pytest.fixture(scope="module")
def case() -> tuple[Trajectory, Cameras, Frames]:
    """A plan of two branches, its true cameras and its frames. The last frame is noise.

    Each true camera is turned by 2 degrees more than planned, and shifted.
    """
    start = pinhole(*SIZE, 290.0)
    share = torch.arange(1, 4).float()[:, None] * 0.15
    right, up = torch.tensor([1.0, 0.0, 0.0]) * share, torch.tensor([0.0, -0.7, 0.3]) * share
    trajectory = Trajectory(
        start, (Clip("right", 0, around(start, right)), Clip("up", 0, around(start, up)))
    )
    turns = (
        torch.tensor([[0.0, 0, 0], *[[0.02, -0.03, 0.01]] * 6])
        * torch.tensor([1, 1, -1, 1, -1, 1, -1])[:, None]
    )
    shifts = (
        torch.tensor([[0.0, 0, 0], *[[0.05, 0.03, -0.04]] * 6])
        * torch.tensor([1, 1, -1, -1, 1, 1, -1])[:, None]
    )
    true_cameras = replace(
        trajectory.cameras,
        world_to_camera=rigid(rotation_from_vector(turns), shifts)
        @ trajectory.cameras.world_to_camera,
    )
    frames = walls.render(true_cameras)
    frames.images[NOISE] = torch.randint(
        0,
        256,
        frames.images.shape[1:],
        generator=torch.Generator().manual_seed(0),
        dtype=torch.uint8,
    )
    return trajectory, true_cameras, frames
