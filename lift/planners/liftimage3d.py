"""The camera paths that the released code of LiftImage3D asks MotionCtrl for."""

from dataclasses import replace
from typing import Annotated

import torch
from annotated_types import Interval, Len
from jaxtyping import Float
from torch import Tensor

from lift.camera_paths import frames_per_clip, opposite
from lift.geometry import rigid, rotation_from_vector
from lift.planners import Planner, planners
from lift.registry.ranges import Degrees, FrameCount, Number, Positive, SignedDistance
from lift.types import Cameras, Clip, Depth, Trajectory

MAX_FRAMES = 100_000
"""Largest number of frames of a tree."""

SIDES = {"right": 1.0, "left": -1.0}
"""Sign of the turn about the upright axis of clips that go round the scene."""
LIFTS = {"up": 1.0, "down": -1.0}
"""Sign of the vertical translation of the world in straight clips."""


@planners.register("liftimage3d")
class LiftImage3D(Planner):
    """Plan the tree of paths of the released LiftImage3D, in the units of MotionCtrl.

    The paths are requests. The generator moves much less than it is asked to, and by how much is
    unknown. So the pose stage does not use these cameras, and `motion_limit` does not shrink them.
    Use `prior=motionctrl`, and a pose estimator that finds cameras from frames.

    Each clip continues the last frame of its parent, and its path is relative to that frame. A clip
    that undoes its parent is left out. The released code generates these clips and drops them. With
    4 directions and 2 levels there are 4 + 12 clips.

    Args:
        levels: Number of levels of the tree, at least 1.
        directions: One or more of right, left (round the scene) and up, down (straight), in the
            order of the clips.
        speed: Factor on all translations.
        axis_scale: Factors on the translations along x (right), y (down) and z (forward).
        angle: Turn per frame of right and left, in degrees.
        radius: Radius of the circle of right and left, before the factors.
        center: Distance of the circle's centre along z, before the factors.
        step: Translation per frame of up and down, before the factors.
        unit: The scene's typical depth in the generator's unit of length. The default is that of
            `prior=motionctrl prior.speed=1.6`, which then gets the released numbers.
        num_frames: New frames per clip. Default: the prior's clip length, else 15.

    Reference:
        LiftImage3D, arXiv 2412.09597, and its code at github.com/AbrahamYabo/LiftImage3D, commit
        1ad4b7b.
    """

    supports_magnitude = False

    def __init__(
        self,
        levels: Annotated[int, Interval(ge=1, le=5)] = 2,
        directions: Annotated[tuple[str, ...], Len(1, 4)] = ("right", "left", "down", "up"),
        speed: Positive = 1.6,
        axis_scale: tuple[Number, Number, Number] = (3.0, 1.0, 4.0),
        angle: Degrees = 5.625,
        radius: SignedDistance = 0.9,
        center: SignedDistance = 0.8,
        step: SignedDistance = 0.0875,
        unit: Positive = 6.128,
        num_frames: FrameCount | None = None,
    ) -> None:
        choices = [*SIDES, *LIFTS]
        for direction in directions:
            if direction not in choices:
                raise ValueError(
                    f"planner.directions has {direction!r}; choose from {', '.join(choices)}"
                )
        if not directions or len(set(directions)) < len(directions):
            raise ValueError(
                f"planner.directions is {list(directions)}; choose one or more, each once"
            )
        self.levels = levels
        self.directions = directions
        self.factors = speed * torch.tensor(axis_scale, dtype=torch.float64)
        self.angle = angle
        self.radius = radius
        self.center = center
        self.step = step
        self.unit = unit
        self.num_frames = num_frames

    def __call__(
        self, camera: Cameras, depth: Depth, clip_length: int | None, magnitude: float = 1.0
    ) -> Trajectory:
        """Plan the tree of clips. `magnitude` has no effect. See `Planner`."""
        count = frames_per_clip(self.num_frames, clip_length, 15)
        paths = self._tree()
        if len(paths) * count > MAX_FRAMES:
            raise ValueError(
                f"planner.levels is {self.levels}, which makes {len(paths)} clips of {count} "
                f"frames; choose fewer levels, directions or frames: at most {MAX_FRAMES} frames"
            )
        motions = {
            direction: self._scene_motion(direction, count, depth.typical)
            for direction in self.directions
        }
        # The last camera of each path, and the index of its frame.
        ends: dict[tuple[str, ...], tuple[Tensor, int]] = {
            (): (camera.world_to_camera[0].double(), 0)
        }
        clips: list[Clip] = []
        for number, path in enumerate(paths):
            start, source = ends[path[:-1]]
            poses = motions[path[-1]] @ start
            ends[path] = poses[-1], (number + 1) * count
            cameras = replace(
                camera,
                world_to_camera=poses.to(camera.world_to_camera),
                intrinsics=camera.intrinsics.expand(count, 3, 3).clone(),
            )
            clips.append(Clip("/".join(path), source, cameras))
        return Trajectory(camera, tuple(clips), "requested")

    def requested_motion(self, direction: str, count: int) -> Float[Tensor, "frame 4 4"]:
        """Return the cameras of a clip in the generator's unit of length.

        Args:
            direction: One of right, left, up and down.
            count: Number of new frames.

        Returns:
            World-to-camera transforms relative to the continued frame, which is left out.
        """
        index = torch.arange(count + 1, dtype=torch.float64)
        vectors = torch.zeros(count + 1, 3, dtype=torch.float64)
        translations = torch.zeros(count + 1, 3, dtype=torch.float64)
        if direction in SIDES:
            turn = torch.deg2rad(SIDES[direction] * self.angle * index)
            vectors[:, 1] = turn
            translations[:, 0] = self.radius * turn.sin()
            translations[:, 2] = self.center + self.radius * turn.cos()
        else:
            translations[:, 1] = LIFTS[direction] * self.step * index
        poses = rigid(rotation_from_vector(vectors), translations * self.factors)
        return poses[1:] @ torch.linalg.inv(poses[0])

    def _scene_motion(self, direction: str, count: int, typical: float) -> Tensor:
        """Return `requested_motion` in the scene's unit of length."""
        motion = self.requested_motion(direction, count)
        motion[:, :3, 3] *= typical / self.unit
        return motion

    def _tree(self) -> list[tuple[str, ...]]:
        """List the paths of the tree, parents first."""
        level: list[tuple[str, ...]] = [()]
        paths: list[tuple[str, ...]] = []
        for _ in range(self.levels):
            level = [
                (*path, direction)
                for path in level
                for direction in self.directions
                if not path or direction != opposite(path[-1])
            ]
            paths += level
        return paths
