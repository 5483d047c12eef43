"""A turn about the scene."""

from typing import Literal

import torch

from lift.camera_paths import around, num_frames, steps
from lift.planners import Planner, planners
from lift.types import Cameras, Clip, Depth, Trajectory


@planners.register("orbit")
class Orbit(Planner):
    """An arc about the upright axis through the scene's centre, which stays in the middle of the picture.

    angle: degrees to go to each side; 360 is the full circle. elevation: degrees above the input's height; the camera climbs to that
    cone over the first quarter of the arc and stays on it. side: right, left, or both, as two clips that start at the input. frames:
    new frames a clip (default: the prior's length, else 24).
    """

    def __init__(
        self,
        angle: float = 20.0,
        elevation: float = 0.0,
        side: Literal["right", "left", "both"] = "both",
        frames: int | None = None,
    ) -> None:
        if not 0 < angle <= 360:
            raise ValueError(
                f"planner.angle is {angle:g}; choose more than 0 and at most 360 degrees"
            )
        self.angle = angle
        self.elevation = elevation
        self.sides = {"right": ("right",), "left": ("left",), "both": ("right", "left")}[side]
        self.frames = frames

    def __call__(
        self, camera: Cameras, depth: Depth, clip_length: int | None, magnitude: float = 1.0
    ) -> Trajectory:
        share = steps(num_frames(self.frames, clip_length, 24))
        climb = (4 * share).clamp(max=1)
        climb = climb * climb * (3 - 2 * climb)
        clips = []
        for side in self.sides:
            turn = share * (self.angle if side == "right" else -self.angle)
            places = magnitude * torch.stack(
                [turn, self.elevation * climb, torch.zeros_like(share)], dim=-1
            )
            clips.append(Clip(side, 0, around(camera, places, depth.typical)))
        return Trajectory(camera, tuple(clips))
