"""A camera path from a file."""

import math
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from annotated_types import Interval
from jaxtyping import Float
from torch import Tensor

from lift.camera_paths import frames_per_clip
from lift.geometry import rigid, rotation_from_vector, rotation_to_quat
from lift.io.cameras import read_cameras
from lift.io.formats import camera_formats
from lift.io.nerfstudio import write_transforms
from lift.planners import Planner, planners
from lift.registry.ranges import FrameCount, Positive
from lift.types import Cameras, Clip, Depth, Trajectory


@planners.register("path")
class FilePath(Planner):
    """Follow a camera path from a file.

    The file is npz, transforms.json, camera_path.json, RealEstate10K text or a COLMAP folder. The
    clips follow one another. The path is never shrunk: `magnitude` has no effect. For
    `prior=frames` the path is a hint for the pose stage.

    Args:
        path: The file. Its first camera is the input view. The others keep their poses relative to
            it.
        scale: Multiplies the lengths of the path, above 0.
        unit: Unit of the path's lengths. `typical_depth`: that of the picture. `scene`: the
            scene's unit (metres if the depth is metric). `extent`: the largest distance from the
            first camera, so that the path extends `scale` typical depths.
        num_frames: New frames per clip. Default: the prior's clip length, else the whole path in
            one clip.
        total_frames: New frames of all clips, interpolated evenly over the path and rounded up to
            whole clips. Default: as many as the file has.
        intrinsics: `input` keeps the input's intrinsics. `file` adds the file's zoom and shift
            relative to its first camera.
    """

    supports_magnitude = False
    hints_recorded_frames = True

    def __init__(
        self,
        path: Path,
        scale: Positive = 1.0,
        unit: Literal["typical_depth", "scene", "extent"] = "typical_depth",
        num_frames: FrameCount | None = None,
        total_frames: Annotated[int, Interval(ge=1, le=100_000)] | None = None,
        intrinsics: Literal["input", "file"] = "input",
    ) -> None:
        self.cameras = _read_path(path)
        if len(self.cameras) < 2:
            raise ValueError(
                f"planner.path is {str(path)!r}, which holds a single camera; a path needs two"
            )
        self.scale = scale
        self.unit = unit
        self.num_frames = num_frames
        self.total_frames = total_frames
        self.intrinsics = intrinsics

    @classmethod
    def example_settings(cls, folder: Path) -> dict[str, Any]:
        """Write a path of five cameras to the right, and return the settings that read it.

        Args:
            folder: An empty folder.
        """
        matrices = torch.eye(4).repeat(5, 1, 1)
        matrices[:, 0, 3] = -0.1 * torch.arange(5)
        intrinsics = torch.tensor([[60.0, 0.0, 32.0], [0.0, 60.0, 24.0], [0.0, 0.0, 1.0]])
        cameras = Cameras(matrices, intrinsics.repeat(5, 1, 1), 64, 48)
        write_transforms(folder / "transforms.json", cameras, [""] * 5)
        return {"path": str(folder / "transforms.json")}

    def __call__(
        self, camera: Cameras, depth: Depth, clip_length: int | None, magnitude: float = 1.0
    ) -> Trajectory:
        """Plan the file's path from the input camera. `magnitude` has no effect."""
        min_count = self.total_frames or len(self.cameras) - 1
        length = frames_per_clip(self.num_frames, clip_length, min_count)
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


def _read_path(path: Path) -> Cameras:
    """Read the file of the setting `planner.path`.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file cannot be read, or holds no camera path.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"planner.path is {str(path)!r}, and there is no camera file of this name; "
            f"choose {camera_formats()}"
        )
    try:
        return read_cameras(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"planner.path: {error}") from None


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
