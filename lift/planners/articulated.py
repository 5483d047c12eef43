"""The tree of short motions of LiftImage3D."""

from typing import Annotated

import torch
from annotated_types import Interval, Len
from torch import Tensor

from lift.camera_paths import (
    DIRECTIONS,
    frames_per_clip,
    motion_fractions,
    opposite,
    orbit_cameras,
)
from lift.planners import Planner, planners
from lift.registry.ranges import Degrees, FrameCount, SignedDistance
from lift.types import Cameras, Clip, Depth, Trajectory

MAX_FRAMES = 100_000
"""Largest number of frames of a tree."""


@planners.register("articulated")
class Articulated(Planner):
    """Plan a tree of short motions: each clip continues the end of its parent.

    A large motion consists of small ones that a video generator can make. A clip that undoes its
    parent (left after right) is left out. So four directions and 2 levels make 4 + 12 clips.
    Parents come before their children.

    Args:
        levels: Number of levels of the tree, at least 1.
        directions: One or more of left, right, up, down (orbits) and in, out.
        num_frames: New frames per clip. Default: the prior's clip length, else 6.
        angle: Degrees of orbit per clip.
        distance: Distance per clip of in and out, as a fraction of the typical depth.

    Reference:
        LiftImage3D, arXiv 2412.09597.
    """

    def __init__(
        self,
        levels: Annotated[int, Interval(ge=1, le=5)] = 2,
        directions: Annotated[tuple[str, ...], Len(1, 6)] = ("right", "left", "up", "down"),
        num_frames: FrameCount | None = None,
        angle: Degrees = 8.0,
        distance: SignedDistance = 0.15,
    ) -> None:
        for direction in directions:
            if direction not in DIRECTIONS:
                raise ValueError(
                    f"planner.directions has {direction!r}; choose from {', '.join(DIRECTIONS)}"
                )
        if not directions or len(set(directions)) < len(directions):
            raise ValueError(
                f"planner.directions is {list(directions)}; choose one or more, each once"
            )
        self.levels = levels
        self.directions = directions
        self.num_frames = num_frames
        self.clip_motion = (angle, angle, distance)

    def __call__(
        self, camera: Cameras, depth: Depth, clip_length: int | None, magnitude: float = 1.0
    ) -> Trajectory:
        """Plan the tree of clips. See `Planner`."""
        num_frames = frames_per_clip(self.num_frames, clip_length, 6)
        count = self._count_clips()
        if count * num_frames > MAX_FRAMES:
            raise ValueError(
                f"planner.levels is {self.levels}, which makes {count} clips of {num_frames} "
                f"frames; choose fewer levels, directions or frames: at most {MAX_FRAMES} frames"
            )
        fraction = motion_fractions(num_frames)[:, None]
        clip_motion = magnitude * torch.tensor(self.clip_motion)
        clips: list[Clip] = []
        # The ends of the clips of the level above: directions, offset, index of the last frame.
        ends: list[tuple[tuple[str, ...], Tensor, int]] = [((), torch.zeros(3), 0)]
        frame = 0
        for _ in range(self.levels):
            parents = ends
            ends = []
            for path, offset, source in parents:
                for direction in self.directions:
                    if path and direction == opposite(path[-1]):
                        continue
                    step = torch.tensor(DIRECTIONS[direction])
                    cameras = orbit_cameras(
                        camera, offset + fraction * step * clip_motion, depth.typical
                    )
                    clips.append(Clip("/".join([*path, direction]), source, cameras))
                    frame += len(cameras)
                    ends.append(((*path, direction), offset + step * clip_motion, frame))
        return Trajectory(camera, tuple(clips))

    def _count_clips(self) -> int:
        """Return the number of clips of the tree."""
        ends = dict.fromkeys(self.directions, 1)
        total = len(ends)
        for _ in range(self.levels - 1):
            ends = {
                direction: sum(ends.values()) - ends.get(opposite(direction), 0)
                for direction in self.directions
            }
            total += sum(ends.values())
        return total
