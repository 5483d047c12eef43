"""What is truly known of some pictures: their depth, and views that no run was given."""

import math
from dataclasses import dataclass

import torch

from lift.depths.known import Known
from lift.geometry import look_at
from lift.io.image import Picture, load_picture
from lift.synthetic.scenes import SCENES
from lift.synthetic.scenes import render as ray_cast
from lift.types import Cameras, Depth, Frames, Trajectory

BASELINE = 0.193001
"""Metres from motorcycle_left to motorcycle_right (Middlebury 2014)."""


@dataclass(frozen=True)
class Truth:
    """True views with their cameras, and the input's true depth, in the truth's own unit of length."""

    frames: Frames
    cameras: Cameras
    depth: Depth
    source: str


def truth_of(image: str | tuple[str, ...], picture: Picture, path: Cameras) -> Truth | None:
    """The truth about a built-in picture, None about all others.

    path: cameras that no frame was generated for, in the truth's unit: a ray-cast scene is seen from there.
    """
    if image in SCENES:
        start = ray_cast(image, picture.cameras)
        depth = Depth(start.depth[0], start.depth[0] > 0, "metric")
        return Truth(
            ray_cast(image, path), path, depth, "ray-cast from cameras that were not generated"
        )
    if image == "motorcycle_left":
        right = load_picture(
            "motorcycle_right", max(picture.cameras.width, picture.cameras.height), 55.0
        )
        moved = torch.eye(4)[None].clone()
        moved[0, 0, 3] = -BASELINE
        cameras = Cameras(
            moved, right.cameras.intrinsics, right.cameras.width, right.cameras.height
        )
        depth = Known(image=image, camera=picture.cameras)(picture.frames.images[0])
        return Truth(
            right.frames,
            cameras,
            depth,
            "the right photograph and the measured disparity of the stereo pair",
        )
    return None


def planned_loop(trajectory: Trajectory, typical: float, count: int) -> Cameras:
    """Lay a closed loop of views within a planned trajectory.

    It depends on nothing that a run estimates, so that runs with other components are compared from
    the same views.

    Args:
        trajectory: Its cameras must be meaningful: planned or known.
        typical: Distance of the point that all views look at, straight ahead of the input.
        count: Number of views.

    Returns:
        Cameras about the input view, with its intrinsics.
    """
    cameras = trajectory.cameras
    start = cameras.world_to_camera[0]
    centers = cameras.centers @ start[:3, :3].T + start[:3, 3]  # in the input camera's frame
    reach_x, reach_y = (0.8 * centers[:, axis].abs().max() for axis in (0, 1))
    near = centers[:, 2].max().clamp(min=0)
    far = centers[:, 2].min().clamp(max=0)
    turn = torch.linspace(0, 2 * math.pi, count + 1)[:-1]
    forward = torch.where(turn < math.pi, near, far) * 0.8 * turn.sin() ** 2
    eye = torch.stack([reach_x * turn.sin(), 0.5 * reach_y * (2 * turn).sin(), forward], dim=-1)
    middle = torch.tensor([0.0, 0.0, typical]).expand(count, 3)
    local = look_at(eye, middle, torch.tensor([0.0, 1.0, 0.0]).expand(count, 3))
    intrinsics = cameras.intrinsics[:1].expand(count, 3, 3).clone()
    return Cameras(local @ start, intrinsics, cameras.width, cameras.height)
