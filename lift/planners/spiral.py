"""The small spiral of forward-facing captures."""

import math

import torch

from lift.camera_paths import facing, num_frames, steps
from lift.planners import Planner, planners
from lift.types import Cameras, Clip, Depth, Trajectory


@planners.register("spiral")
class Spiral(Planner):
    """Circles in the picture plane that swing to and fro, looking at the scene's centre, in one clip.

    The path of LLFF (arXiv 1905.00889), begun at the input camera: the radius grows from zero over the first half turn.

    radius: of the circles, as a share of the typical depth. swing: how far it goes in and out, likewise, once in two turns. turns: the
    number of circles. frames: new frames (default: the prior's length, else 48).
    """

    def __init__(
        self,
        radius: float = 0.15,
        swing: float = 0.05,
        turns: float = 2.0,
        frames: int | None = None,
    ) -> None:
        if radius < 0 or not 0 <= swing < 1 or turns <= 0:
            raise ValueError(
                f"planner.radius is {radius:g}, planner.swing {swing:g}, planner.turns {turns:g}; "
                "choose a radius of 0 or more, a swing of 0 to 1 and turns above 0"
            )
        self.radius = radius
        self.swing = swing
        self.turns = turns
        self.frames = frames

    def __call__(
        self, camera: Cameras, depth: Depth, clip_length: int | None, magnitude: float = 1.0
    ) -> Trajectory:
        turned = self.turns * steps(num_frames(self.frames, clip_length, 48)).to(
            camera.world_to_camera
        )
        grown = (2 * turned).clamp(max=1)
        grown = grown * grown * (3 - 2 * grown)
        angle = 2 * math.pi * turned
        eyes = [
            self.radius * grown * angle.cos(),
            -self.radius * grown * angle.sin(),
            self.swing * (angle / 2).sin(),
        ]
        eyes = magnitude * depth.typical * torch.stack(eyes, dim=-1)
        return Trajectory(camera, (Clip("spiral", 0, facing(camera, eyes, depth.typical)),))
