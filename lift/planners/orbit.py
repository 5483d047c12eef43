"""An orbit about the scene."""

from typing import Annotated, Literal

import torch
from annotated_types import Interval

from lift.camera_paths import frames_per_clip, motion_fractions, orbit_cameras
from lift.planners import Planner, planners
from lift.registry.ranges import FrameCount
from lift.types import Cameras, Clip, Depth, Trajectory


@planners.register("orbit")
class Orbit(Planner):
    """Orbit about the upright axis through the scene's centre.

    The scene's centre stays centred in the picture.

    Args:
        angle: Degrees to each side, in (0, 360]. 360 is the full circle.
        elevation: Degrees above the input's height. The camera climbs over the first quarter of the
            arc and then keeps its elevation.
        side: right, left, or both. Both makes two clips that start at the input.
        num_frames: New frames per clip. Default: the prior's clip length, else 24.
    """

    def __init__(
        self,
        angle: Annotated[float, Interval(gt=0, le=360)] = 20.0,
        elevation: Annotated[float, Interval(ge=-90, le=90)] = 0.0,
        side: Literal["right", "left", "both"] = "both",
        num_frames: FrameCount | None = None,
    ) -> None:
        self.angle = angle
        self.elevation = elevation
        self.sides = {"right": ("right",), "left": ("left",), "both": ("right", "left")}[side]
        self.num_frames = num_frames

    def __call__(
        self, camera: Cameras, depth: Depth, clip_length: int | None, magnitude: float = 1.0
    ) -> Trajectory:
        """Plan one clip per side. See `Planner`."""
        fraction = motion_fractions(frames_per_clip(self.num_frames, clip_length, 24))
        climb = (4 * fraction).clamp(max=1)
        climb = climb * climb * (3 - 2 * climb)
        clips = []
        for side in self.sides:
            turn = fraction * (self.angle if side == "right" else -self.angle)
            offsets = magnitude * torch.stack(
                [turn, self.elevation * climb, torch.zeros_like(fraction)], dim=-1
            )
            clips.append(Clip(side, 0, orbit_cameras(camera, offsets, depth.typical)))
        return Trajectory(camera, tuple(clips))
