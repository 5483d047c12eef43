"""The small spiral of forward-facing captures."""

import math
from typing import Annotated

import torch
from annotated_types import Interval

from lift.camera_paths import cameras_facing, frames_per_clip, motion_fractions
from lift.planners import Planner, planners
from lift.registry.ranges import FractionBelowOne, FrameCount
from lift.types import Cameras, Clip, Depth, Trajectory


@planners.register("spiral")
class Spiral(Planner):
    """Move on circles in the picture plane that swing in and out, in one clip.

    The camera looks at the scene's centre. The path starts at the input camera: the radius grows
    from zero over the first half turn.

    Args:
        radius: Radius of the circles, as a fraction of the typical depth, at least 0.
        swing: Amplitude of the motion in and out, as a fraction of the typical depth, in [0, 1).
            Its period is two turns.
        turns: Number of circles, above 0.
        num_frames: New frames. Default: the prior's clip length, else 48.

    Reference:
        LLFF, arXiv 1905.00889.
    """

    def __init__(
        self,
        radius: Annotated[float, Interval(ge=0, le=1000)] = 0.15,
        swing: FractionBelowOne = 0.05,
        turns: Annotated[float, Interval(gt=0, le=1000)] = 2.0,
        num_frames: FrameCount | None = None,
    ) -> None:
        self.radius = radius
        self.swing = swing
        self.turns = turns
        self.num_frames = num_frames

    def __call__(
        self, camera: Cameras, depth: Depth, clip_length: int | None, magnitude: float = 1.0
    ) -> Trajectory:
        """Plan one clip. See `Planner`."""
        phase = self.turns * motion_fractions(frames_per_clip(self.num_frames, clip_length, 48)).to(
            camera.world_to_camera
        )
        growth = (2 * phase).clamp(max=1)
        growth = growth * growth * (3 - 2 * growth)
        angle = 2 * math.pi * phase
        eyes = [
            self.radius * growth * angle.cos(),
            -self.radius * growth * angle.sin(),
            self.swing * (angle / 2).sin(),
        ]
        eyes = magnitude * depth.typical * torch.stack(eyes, dim=-1)
        return Trajectory(camera, (Clip("spiral", 0, cameras_facing(camera, eyes, depth.typical)),))
