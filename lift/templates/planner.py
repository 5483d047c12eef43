"""The planner `new_planner`."""

from typing import Annotated

import torch
from annotated_types import Interval

from lift.camera_paths import frames_per_clip, motion_fractions
from lift.geometry import look_at
from lift.planners import Planner, planners
from lift.registry.ranges import FrameCount
from lift.types import Cameras, Clip, Depth, Trajectory

SIDES = {"right": 1.0, "left": -1.0}
"""Name of a clip -> direction along the x axis of the input camera."""


@planners.register("new_planner")
class NewPlanner(Planner):
    """Move to both sides and look at the scene's centre.

    Args:
        distance: Length of the motion in units of the scene's typical depth, from 0.01 to 2.
        num_frames: New frames per clip, at least 1. None: the prior's clip length, else 16.
    """

    def __init__(
        self,
        distance: Annotated[float, Interval(ge=0.01, le=2)] = 0.2,
        num_frames: FrameCount | None = None,
    ) -> None:
        self.distance = distance
        self.num_frames = num_frames

    def __call__(
        self, camera: Cameras, depth: Depth, clip_length: int | None, magnitude: float = 1.0
    ) -> Trajectory:
        """Plan one clip to each side. See `Planner`."""
        count = frames_per_clip(self.num_frames, clip_length, 16)
        length = magnitude * self.distance * depth.typical
        centre = torch.tensor([0.0, 0.0, depth.typical])
        clips = []
        for name, direction in SIDES.items():
            # The world has the axes of the input camera: x right, y down, z forward.
            eyes = torch.zeros(count, 3)
            eyes[:, 0] = direction * length * motion_fractions(count)
            down = torch.tensor([0.0, 1.0, 0.0]).expand(count, 3)
            poses = look_at(eyes, centre.expand(count, 3), down)
            intrinsics = camera.intrinsics.repeat(count, 1, 1)
            cameras = Cameras(poses, intrinsics, camera.width, camera.height)
            # 0 is the input. To continue a clip, give the index of its last frame instead.
            clips.append(Clip(name, 0, cameras))
        return Trajectory(camera, tuple(clips))
