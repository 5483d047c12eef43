"""The published method's plan: a tree of short motions."""

import torch

from lift.camera_paths import DIRECTIONS, around, num_frames, steps
from lift.planners import Planner, planners
from lift.types import Cameras, Clip, Depth, Trajectory


@planners.register("articulated")
class Articulated(Planner):
    """A tree of short motions about the scene's centre, each continuing the last frame of its parent.

    A large motion in small ones, each within what a video generator does well (LiftImage3D, arXiv 2412.09597). A clip that would undo
    its parent (left after right) is left out: four directions and depth 2 make 4 + 12 clips. Clips come parents first.

    depth: levels of the tree. directions: of left, right, up, down (orbits) and in, out. frames: new frames a clip (default: the
    prior's length, else 8). angle: degrees of orbit a clip. distance: of in and out a clip, as a share of the typical depth.
    """

    def __init__(
        self,
        depth: int = 2,
        directions: tuple[str, ...] = ("right", "left", "up", "down"),
        frames: int | None = None,
        angle: float = 8.0,
        distance: float = 0.15,
    ) -> None:
        if depth < 1:
            raise ValueError(f"planner.depth is {depth}; choose 1 or more")
        for direction in directions:
            if direction not in DIRECTIONS:
                raise ValueError(
                    f"planner.directions has {direction!r}; choose of {', '.join(DIRECTIONS)}"
                )
        if not directions or len(set(directions)) < len(directions):
            raise ValueError(
                f"planner.directions is {list(directions)}; choose one or more, each once"
            )
        self.levels = depth
        self.directions = directions
        self.frames = frames
        self.reach = (angle, angle, distance)

    def __call__(
        self, camera: Cameras, depth: Depth, clip_length: int | None, magnitude: float = 1.0
    ) -> Trajectory:
        share = steps(num_frames(self.frames, clip_length, 8))[:, None]
        reach = magnitude * torch.tensor(self.reach)
        clips: list[Clip] = []
        ends = [
            ((), torch.zeros(3), 0)
        ]  # of every clip of the level above: the directions taken, the place, the index of its frame
        frame = 0
        for _ in range(self.levels):
            parents, ends = ends, []
            for path, place, source in parents:
                for direction in self.directions:
                    step = torch.tensor(DIRECTIONS[direction])
                    if path and bool((step == -torch.tensor(DIRECTIONS[path[-1]])).all()):
                        continue
                    cameras = around(camera, place + share * step * reach, depth.typical)
                    clips.append(Clip("/".join([*path, direction]), source, cameras))
                    frame += len(cameras)
                    ends.append(((*path, direction), place + step * reach, frame))
        return Trajectory(camera, tuple(clips))
