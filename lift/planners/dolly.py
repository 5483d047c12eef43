"""A push towards the scene or away from it."""

from dataclasses import replace
from typing import Annotated

import torch
from annotated_types import Interval

from lift.camera_paths import cameras_facing, frames_per_clip, motion_fractions
from lift.planners import Planner, planners
from lift.registry.ranges import FrameCount
from lift.types import Cameras, Clip, Depth, Trajectory


@planners.register("dolly")
class Dolly(Planner):
    """Move straight in or out, optionally with a dolly zoom.

    Args:
        distance: Distance as a fraction of the typical depth, below 1 and not 0. Negative moves
            out.
        zoom: Change the focal length so that the scene's centre keeps its size (dolly zoom).
        num_frames: New frames. Default: the prior's clip length, else 16.
    """

    def __init__(
        self,
        distance: Annotated[float, Interval(ge=-1000, lt=1)] = 0.3,
        zoom: bool = False,
        num_frames: FrameCount | None = None,
    ) -> None:
        if distance == 0:
            raise ValueError(f"planner.distance is {distance:g}; choose less than 1, and not 0")
        self.distance = distance
        self.zoom = zoom
        self.num_frames = num_frames

    def __call__(
        self, camera: Cameras, depth: Depth, clip_length: int | None, magnitude: float = 1.0
    ) -> Trajectory:
        """Plan one clip. See `Planner`."""
        advance = (
            magnitude
            * self.distance
            * motion_fractions(frames_per_clip(self.num_frames, clip_length, 16)).to(
                camera.world_to_camera
            )
        )
        eyes = depth.typical * torch.stack(
            [torch.zeros_like(advance), torch.zeros_like(advance), advance], dim=-1
        )
        cameras = cameras_facing(camera, eyes, depth.typical)
        if self.zoom:
            factor = torch.ones(len(advance), 3, 3).to(advance)
            factor[:, 0, 0] = factor[:, 1, 1] = 1 - advance
            cameras = replace(cameras, intrinsics=cameras.intrinsics * factor)
        return Trajectory(camera, (Clip("in" if self.distance > 0 else "out", 0, cameras),))
