"""Provide the truth about built-in pictures: their depth, and views that no run has as input."""

import math
from dataclasses import dataclass

import torch

from lift.depths.known import KnownDepth
from lift.geometry import look_at
from lift.io.image import Picture, load_picture
from lift.synthetic.scenes import SCENES
from lift.synthetic.scenes import render as ray_cast
from lift.types import Cameras, Depth, Frames, Trajectory

BASELINE = 0.193001
"""Distance in metres from motorcycle_left to motorcycle_right (Middlebury 2014)."""


@dataclass(frozen=True)
class Truth:
    """True views with their cameras, and the input's true depth, in the truth's unit of length."""

    frames: Frames
    """The true views."""
    cameras: Cameras
    """Cameras of the views."""
    depth: Depth
    """Depth of the input."""
    source: str
    """Description of the views."""


def truth_of(image: str | tuple[str, ...], picture: Picture, path: Cameras) -> Truth | None:
    """Load the truth about a built-in picture.

    Args:
        image: The setting `image`.
        picture: The input of the run.
        path: Cameras in the truth's unit from which a ray-cast scene is rendered. No frame was
            generated for them.

    Returns:
        The truth. None for pictures that are not built in.
    """
    if not isinstance(image, str):
        return None
    if image in SCENES:
        depths = ray_cast(image, picture.cameras).depth
        assert depths is not None
        depth = Depth(depths[0], depths[0] > 0, "metric")
        return Truth(
            ray_cast(image, path), path, depth, "ray-cast from cameras that were not generated"
        )
    if image == "motorcycle_left":
        size = (picture.cameras.width, picture.cameras.height)

        def choose_shape(*own_size: int) -> tuple[tuple[int, int] | None, str]:
            # The right picture is cropped if the left one was, for a video generator.
            return (None if own_size == size else size), ""

        right = load_picture("motorcycle_right", max(size), 55.0, choose_shape)
        pose = torch.eye(4)[None].clone()
        pose[0, 0, 3] = -BASELINE
        cameras = Cameras(pose, right.cameras.intrinsics, right.cameras.width, right.cameras.height)
        depth = KnownDepth(image=image, camera=picture.cameras)(picture.frames.images[0])
        return Truth(
            right.frames,
            cameras,
            depth,
            "the right photograph and the measured disparity of the stereo pair",
        )
    return None


def planned_loop(trajectory: Trajectory, typical_depth: float, count: int) -> Cameras:
    """Plan a closed loop of views within a planned trajectory.

    It depends on nothing that a run estimates, so that runs with other components are compared from
    the same views.

    Args:
        trajectory: A trajectory with meaningful cameras: planned or known.
        typical_depth: Distance of the point that all views look at, straight ahead of the input.
        count: Number of views.

    Returns:
        Cameras about the input view, with its intrinsics.
    """
    cameras = trajectory.cameras
    start = cameras.world_to_camera[0]
    centers = cameras.centers @ start[:3, :3].T + start[:3, 3]  # in the input camera's frame
    extent_x, extent_y = (0.8 * centers[:, axis].abs().max() for axis in (0, 1))
    near = centers[:, 2].max().clamp(min=0)
    far = centers[:, 2].min().clamp(max=0)
    phase = torch.linspace(0, 2 * math.pi, count + 1)[:-1]
    forward = torch.where(phase < math.pi, near, far) * 0.8 * phase.sin() ** 2
    eye = torch.stack([extent_x * phase.sin(), 0.5 * extent_y * (2 * phase).sin(), forward], dim=-1)
    target = torch.tensor([0.0, 0.0, typical_depth]).expand(count, 3)
    local = look_at(eye, target, torch.tensor([0.0, 1.0, 0.0]).expand(count, 3))
    intrinsics = cameras.intrinsics[:1].expand(count, 3, 3).clone()
    return Cameras(local @ start, intrinsics, cameras.width, cameras.height)
