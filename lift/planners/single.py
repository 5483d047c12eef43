"""What the tree is compared with: the same motion in one go."""

import torch

from lift.camera_paths import DIRECTIONS, around, num_frames, steps
from lift.planners import Planner, planners
from lift.types import Cameras, Clip, Depth, Trajectory


@planners.register("single")
class Single(Planner):
    """One large motion in one clip, to where a clip of `articulated` ends.

    direction: the path of that clip in the tree, such as right/right or left/up; each part moves by `angle` or `distance`, as there.
    frames: new frames (default: the prior's length, else 16). angle: degrees of orbit. distance: as a share of the typical depth.
    """

    def __init__(
        self,
        direction: str = "right/right",
        frames: int | None = None,
        angle: float = 8.0,
        distance: float = 0.15,
    ) -> None:
        parts = direction.split("/")
        if not all(part in DIRECTIONS for part in parts):
            raise ValueError(
                f"planner.direction is {direction!r}; choose of {', '.join(DIRECTIONS)}, several joined by a slash"
            )
        self.direction = direction
        self.frames = frames
        self.end = torch.tensor([DIRECTIONS[part] for part in parts]).sum(0) * torch.tensor(
            [angle, angle, distance]
        )
        if not bool(self.end.any()):
            raise ValueError(
                f"planner.direction is {direction!r} with angle {angle:g} and distance {distance:g}: that does not move"
            )

    def __call__(
        self, camera: Cameras, depth: Depth, clip_length: int | None, magnitude: float = 1.0
    ) -> Trajectory:
        share = steps(num_frames(self.frames, clip_length, 16))[:, None]
        return Trajectory(
            camera,
            (Clip(self.direction, 0, around(camera, share * magnitude * self.end, depth.typical)),),
        )
