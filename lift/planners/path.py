"""A motion from a file."""

import math
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from lift.camera_paths import num_frames
from lift.geometry import rigid, rotation_from_vector, rotation_to_quat
from lift.io.cameras import read_cameras
from lift.planners import Planner, planners
from lift.types import Cameras, Clip, Depth, Trajectory


@planners.register("path")
class FromFile(Planner):
    """A camera path from a file: npz, transforms.json, RealEstate10K text or a COLMAP folder.

    path: the file; its first camera is the input view, and the others keep their place relative to it. scale: multiplies the path's
    lengths, whose unit is `depth`: the typical depth of the picture; `scene`: the scene's own (metres, if the depth is metric);
    `reach`: the distance from the first camera to the farthest, so that the path goes `scale` typical depths far. frames: new frames
    a clip (default: the prior's length, else the whole path in one); clips follow one another. count: new frames in all (default: as
    many as the file has), evenly over the path, interpolated; rounded up to whole clips. intrinsics: `run` keeps the input's, `file`
    zooms and shifts as the file does from its first camera on. A path is never shrunk: `magnitude` is not looked at.
    """

    scales = False

    def __init__(
        self,
        path: Path,
        scale: float = 1.0,
        unit: Literal["depth", "scene", "reach"] = "depth",
        frames: int | None = None,
        count: int | None = None,
        intrinsics: Literal["run", "file"] = "run",
    ) -> None:
        if not 0 < scale < math.inf:
            raise ValueError(f"planner.scale is {scale:g}; choose more than 0")
        if count is not None and count < 1:
            raise ValueError(f"planner.count is {count}; choose 1 or more")
        self.cameras = read_cameras(path)
        if len(self.cameras) < 2:
            raise ValueError(
                f"planner.path is {str(path)!r}, which holds a single camera; a path needs two"
            )
        self.scale = scale
        self.unit = unit
        self.frames = frames
        self.count = count
        self.intrinsics = intrinsics

    def __call__(
        self, camera: Cameras, depth: Depth, clip_length: int | None, magnitude: float = 1.0
    ) -> Trajectory:
        wanted = self.count or len(self.cameras) - 1
        length = num_frames(self.frames, clip_length, wanted)
        count = math.ceil(wanted / length) * length
        place = torch.arange(1, count + 1, dtype=torch.float64) / count * (len(self.cameras) - 1)
        to_first = self.cameras.world_to_camera[:1].double() @ torch.linalg.inv(
            self.cameras.world_to_camera.double()
        )
        to_first[:, :3, 3] *= self._unit(to_first[:, :3, 3], depth)
        moved = torch.linalg.inv(_between(to_first, place)) @ camera.world_to_camera.double()
        lens = self._lenses(camera, place).to(camera.intrinsics)
        cameras = Cameras(moved.to(camera.world_to_camera), lens, camera.width, camera.height)
        clips, source = [], 0
        for number, first in enumerate(range(0, count, length)):
            clips.append(Clip(f"path/{number}", source, cameras[first : first + length]))
            source = first + length
        return Trajectory(camera, tuple(clips))

    def _unit(self, centers: Float[Tensor, "view 3"], depth: Depth) -> float:
        if self.unit == "scene":
            return self.scale
        reach = float(centers.norm(dim=-1).max()) if self.unit == "reach" else 1.0
        return (
            self.scale * depth.typical / reach if reach > 0 else 1.0
        )  # a camera that only turns has no lengths

    def _lenses(self, camera: Cameras, place: Float[Tensor, "frame"]) -> Float[Tensor, "frame 3 3"]:
        own = camera.intrinsics.expand(len(place), 3, 3).double().clone()
        if self.intrinsics == "file":
            lens = self.cameras.intrinsics.double()
            before = place.long().clamp(max=len(lens) - 2)
            lens = torch.lerp(lens[before], lens[before + 1], (place - before)[:, None, None])
            first = self.cameras.intrinsics[0].double()
            focal = own[:, [0, 1], [0, 1]]
            own[:, :2, 2] += (lens[:, :2, 2] - first[:2, 2]) * focal / first[[0, 1], [0, 1]]
            own[:, [0, 1], [0, 1]] = focal * lens[:, [0, 1], [0, 1]] / first[[0, 1], [0, 1]]
        return own


def _between(
    poses: Float[Tensor, "view 4 4"], place: Float[Tensor, "frame"]
) -> Float[Tensor, "frame 4 4"]:
    """Rigid motions at fractional indices: turning and moving evenly from one pose to the next."""
    before = place.long().clamp(max=len(poses) - 2)
    share = (place - before)[:, None]
    here, there = poses[before], poses[before + 1]
    quats = rotation_to_quat(here[:, :3, :3].mT @ there[:, :3, :3])
    sine = quats[:, 1:].norm(dim=-1, keepdim=True)
    turn = quats[:, 1:] / sine.clamp(min=1e-12) * 2 * torch.atan2(sine, quats[:, :1])
    return rigid(
        here[:, :3, :3] @ rotation_from_vector(share * turn),
        torch.lerp(here[:, :3, 3], there[:, :3, 3], share),
    )
