"""One large motion, the baseline for the tree of short motions."""

import torch

from lift.camera_paths import DIRECTIONS, frames_per_clip, motion_fractions, orbit_cameras
from lift.planners import Planner, planners
from lift.registry.ranges import Degrees, FrameCount, SignedDistance
from lift.types import Cameras, Clip, Depth, Trajectory


@planners.register("single")
class Single(Planner):
    """Make one large motion in one clip, to the end of a path of `articulated`.

    Args:
        direction: The path in the tree, such as right/right or left/up. Each part moves by `angle`
            or `distance`.
        num_frames: New frames. Default: the prior's clip length, else 16.
        angle: Degrees of orbit per part.
        distance: Distance per part of in and out, as a fraction of the typical depth.
    """

    def __init__(
        self,
        direction: str = "right/right",
        num_frames: FrameCount | None = None,
        angle: Degrees = 8.0,
        distance: SignedDistance = 0.15,
    ) -> None:
        parts = direction.split("/")
        if not all(part in DIRECTIONS for part in parts):
            raise ValueError(
                f"planner.direction is {direction!r}; choose from {', '.join(DIRECTIONS)}, "
                "several joined by a slash"
            )
        self.direction = direction
        self.num_frames = num_frames
        self.total_motion = torch.tensor([DIRECTIONS[part] for part in parts]).sum(
            0
        ) * torch.tensor([angle, angle, distance])
        if not bool(self.total_motion.any()):
            raise ValueError(
                f"planner.direction is {direction!r} with angle {angle:g} "
                f"and distance {distance:g}: that does not move"
            )

    def __call__(
        self, camera: Cameras, depth: Depth, clip_length: int | None, magnitude: float = 1.0
    ) -> Trajectory:
        """Plan one clip. See `Planner`."""
        fraction = motion_fractions(frames_per_clip(self.num_frames, clip_length, 16))[:, None]
        return Trajectory(
            camera,
            (
                Clip(
                    self.direction,
                    0,
                    orbit_cameras(camera, fraction * magnitude * self.total_motion, depth.typical),
                ),
            ),
        )
