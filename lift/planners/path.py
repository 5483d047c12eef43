"""A camera path from a file."""

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
class FilePath(Planner):
    """Follow a camera path from a file.

    The file is npz, transforms.json, RealEstate10K text or a COLMAP folder. The clips follow
    one another. The path is never shrunk: `magnitude` has no effect.

    Args:
        path: The file. Its first camera is the input view. The others keep their poses relative to
            it.
        scale: Multiplies the lengths of the path, above 0.
        unit: Unit of the path's lengths. `depth`: the typical depth of the picture. `scene`: the
            scene's unit (metres if the depth is metric). `extent`: the largest distance from the
            first camera, so that the path extends `scale` typical depths.
        frames: New frames per clip. Default: the prior's clip length, else the whole path in one
            clip.
        count: New frames in total, interpolated evenly over the path and rounded up to whole clips.
            Default: as many as the file has.
        intrinsics: `run` keeps the input's intrinsics. `file` adds the file's zoom and shift
            relative to its first camera.
    """

    supports_magnitude = False

    def __init__(
        self,
        path: Path,
        scale: float = 1.0,
        unit: Literal["depth", "scene", "extent"] = "depth",
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
        """Plan the file's path from the input camera. `magnitude` has no effect."""
        min_count = self.count or len(self.cameras) - 1
        length = num_frames(self.frames, clip_length, min_count)
        count = math.ceil(min_count / length) * length
        index = torch.arange(1, count + 1, dtype=torch.float64) / count * (len(self.cameras) - 1)
        to_start = self.cameras.world_to_camera[:1].double() @ torch.linalg.inv(
            self.cameras.world_to_camera.double()
        )
        to_start[:, :3, 3] *= self._length_factor(to_start[:, :3, 3], depth)
        world_to_camera = (
            torch.linalg.inv(_interpolate_poses(to_start, index)) @ camera.world_to_camera.double()
        )
        intrinsics = self._intrinsics(camera, index).to(camera.intrinsics)
        cameras = Cameras(
            world_to_camera.to(camera.world_to_camera), intrinsics, camera.width, camera.height
        )
        clips = []
        source = 0
        for number, start in enumerate(range(0, count, length)):
            clips.append(Clip(f"path/{number}", source, cameras[start : start + length]))
            source = start + length
        return Trajectory(camera, tuple(clips))

    def _length_factor(self, centers: Float[Tensor, "view 3"], depth: Depth) -> float:
        """Scene units per unit of the file. 1 for a camera that only rotates."""
        if self.unit == "scene":
            return self.scale
        extent = float(centers.norm(dim=-1).max()) if self.unit == "extent" else 1.0
        return self.scale * depth.typical / extent if extent > 0 else 1.0

    def _intrinsics(
        self, camera: Cameras, index: Float[Tensor, "frame"]
    ) -> Float[Tensor, "frame 3 3"]:
        """Intrinsics at fractional indices into the file's cameras."""
        out = camera.intrinsics.expand(len(index), 3, 3).double().clone()
        if self.intrinsics == "file":
            file = self.cameras.intrinsics.double()
            before = index.long().clamp(max=len(file) - 2)
            file = torch.lerp(file[before], file[before + 1], (index - before)[:, None, None])
            start = self.cameras.intrinsics[0].double()
            focal = out[:, [0, 1], [0, 1]]
            out[:, :2, 2] += (file[:, :2, 2] - start[:2, 2]) * focal / start[[0, 1], [0, 1]]
            out[:, [0, 1], [0, 1]] = focal * file[:, [0, 1], [0, 1]] / start[[0, 1], [0, 1]]
        return out


def _interpolate_poses(
    poses: Float[Tensor, "view 4 4"], index: Float[Tensor, "frame"]
) -> Float[Tensor, "frame 4 4"]:
    """Interpolate rigid motions at fractional indices, with constant velocity between poses."""
    before = index.long().clamp(max=len(poses) - 2)
    fraction = (index - before)[:, None]
    start = poses[before]
    end = poses[before + 1]
    quats = rotation_to_quat(start[:, :3, :3].mT @ end[:, :3, :3])
    sine = quats[:, 1:].norm(dim=-1, keepdim=True)
    turn = quats[:, 1:] / sine.clamp(min=1e-12) * 2 * torch.atan2(sine, quats[:, :1])
    return rigid(
        start[:, :3, :3] @ rotation_from_vector(fraction * turn),
        torch.lerp(start[:, :3, 3], end[:, :3, 3], fraction),
    )
