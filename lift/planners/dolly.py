"""A push towards the scene, or away from it."""

from dataclasses import replace

import torch

from lift.camera_paths import facing, num_frames, steps
from lift.planners import Planner, planners
from lift.types import Cameras, Clip, Depth, Trajectory


@planners.register("dolly")
class Dolly(Planner):
    """A push straight in (or out), if asked for with the zoom that keeps the scene's centre at its size.

    distance: as a share of the typical depth; negative = out. zoom: change the focal length with the distance to the centre (dolly
    zoom). frames: new frames (default: the prior's length, else 16).
    """

    def __init__(
        self, distance: float = 0.3, zoom: bool = False, frames: int | None = None
    ) -> None:
        if distance == 0 or distance >= 1:
            raise ValueError(f"planner.distance is {distance:g}; choose less than 1, and not 0")
        self.distance = distance
        self.zoom = zoom
        self.frames = frames

    def __call__(
        self, camera: Cameras, depth: Depth, clip_length: int | None, magnitude: float = 1.0
    ) -> Trajectory:
        moved = (
            magnitude
            * self.distance
            * steps(num_frames(self.frames, clip_length, 16)).to(camera.world_to_camera)
        )
        eyes = depth.typical * torch.stack(
            [torch.zeros_like(moved), torch.zeros_like(moved), moved], dim=-1
        )
        cameras = facing(camera, eyes, depth.typical)
        if self.zoom:
            factor = torch.ones(len(moved), 3, 3).to(moved)
            factor[:, 0, 0] = factor[:, 1, 1] = 1 - moved
            cameras = replace(cameras, intrinsics=cameras.intrinsics * factor)
        return Trajectory(camera, (Clip("in" if self.distance > 0 else "out", 0, cameras),))
