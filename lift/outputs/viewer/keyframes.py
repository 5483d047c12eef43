"""Smooth camera paths through keyframes, and their files."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.interpolate import CubicSpline

from lift.io.names import safe_name
from lift.io.nerfstudio import write_transforms
from lift.outputs.viewer.poses import Pose, camera_at
from lift.runtime.atomic_io import make_folder, publish
from lift.types import Cameras

PATHS = "paths"
"""Folder of saved paths, below the folder of a run or of a file."""

MAX_VIEWS = 10_000
"""Largest number of views of a path."""

_SAMPLES = 64
"""Number of samples between two keyframes, by which the length of the path is measured."""

_MIN_STEP = 1e-3
"""Smallest step between keyframes as a fraction of the longest one, so that none is doubled."""


@dataclass(frozen=True)
class Keyframe:
    """A view that a path goes through."""

    pose: Pose
    """Pose of the camera."""
    zoom: float = 1.0
    """Factor on the focal length of the input camera, above 0."""


def smooth_path(keyframes: Sequence[Keyframe], count: int, loop: bool = False) -> list[Keyframe]:
    """Interpolate a path with constant speed.

    Positions, the points that the camera looks at, and zooms follow cubic splines. The parameter
    is centripetal, so the path has no cusps or knots.

    Args:
        keyframes: The keyframes, at least one.
        count: Number of views, at least 1.
        loop: Whether the path returns to the first keyframe. Its end then leads on to its start.

    Returns:
        The views. The first is the first keyframe. The last is the last one unless it is a loop.
    """
    if len(keyframes) < 2:
        return [keyframes[0]] * count
    knots = [*keyframes, keyframes[0]] if loop else list(keyframes)
    values = np.stack(
        [
            np.concatenate([k.pose.position, k.pose.look_at, k.pose.up, [np.log(k.zoom)]])
            for k in knots
        ]
    )
    # Lengths are compared with the distance of what is looked at; a zoom by e counts as much.
    unit = float(np.mean([k.pose.distance for k in knots])) or 1.0
    scaled = values / np.array([unit] * 6 + [1.0] * 4)
    steps = np.sqrt(np.linalg.norm(np.diff(scaled, axis=0), axis=1))
    if steps.max() == 0:
        return [keyframes[0]] * count
    times = np.concatenate([[0.0], np.cumsum(np.maximum(steps, _MIN_STEP * steps.max()))])
    is_closed = loop and len(keyframes) > 2
    spline = CubicSpline(times, scaled, bc_type="periodic" if is_closed else "natural")
    fine = np.linspace(0, times[-1], _SAMPLES * (len(knots) - 1) + 1)
    length = np.cumsum(np.linalg.norm(np.diff(spline(fine), axis=0), axis=1))
    length = np.concatenate([[0.0], length])
    even = np.linspace(0, length[-1], count, endpoint=not loop)
    path = spline(np.interp(even, length, fine)) * np.array([unit] * 6 + [1.0] * 4)
    return [_keyframe(row) for row in path]


def path_cameras(path: Sequence[Keyframe], picture: Cameras) -> Cameras:
    """Return the cameras of a path.

    Args:
        path: Views, at least one.
        picture: The input camera, one view, with the intrinsics of zoom 1 and the picture size.
    """
    return Cameras.cat([camera_at(view.pose, picture, view.zoom) for view in path])


def write_path(folder: Path, name: str, cameras: Cameras) -> Path:
    """Write cameras as transforms.json, which `lift render --path` and `planner=path` read.

    Args:
        folder: Folder of the run. The file lies in its folder `paths`.
        name: Name of the file without suffix. It is changed if it is not safe.
        cameras: The cameras.

    Returns:
        The file.

    Raises:
        OSError: The file cannot be written.
    """
    target = folder / PATHS
    make_folder(target)
    path = target / f"{safe_name(name.strip(), 'path')}.json"
    publish(path, lambda draft: write_transforms(draft, cameras, [""] * len(cameras)))
    return path


def nearest(path: Sequence[Keyframe], position: float) -> Keyframe:
    """Return the view at a fractional index of a path.

    Args:
        path: Views, at least one.
        position: Index, from 0 to the number of views, where the first follows the last.
    """
    count = len(path)
    before = int(position) % count
    first = path[before]
    second = path[(before + 1) % count]
    fraction = position - int(position)
    zoom = first.zoom * (second.zoom / first.zoom) ** fraction
    return replace(first, pose=first.pose.mix(second.pose, fraction), zoom=zoom)


def camera_views(cameras: Cameras, distance: float, focal: float) -> list[Keyframe]:
    """Return the views of cameras.

    Args:
        cameras: The cameras.
        distance: Distance of the points that they look at, in scene units.
        focal: Focal length of zoom 1 in pixels, for pictures as wide as those of the cameras.
    """
    matrices = cameras.world_to_camera.double().cpu()
    rotations = matrices[:, :3, :3].numpy()
    centers = torch.linalg.inv(matrices)[:, :3, 3].numpy()
    zooms = (cameras.intrinsics[:, 0, 0] / focal).tolist()
    return [
        Keyframe(Pose(center, center + distance * rotation[2], -rotation[1]), zoom)
        for rotation, center, zoom in zip(rotations, centers, zooms, strict=True)
    ]


def _keyframe(row: np.ndarray) -> Keyframe:
    """Return the view of a row of interpolated values."""
    up = row[6:9]
    return Keyframe(
        Pose(row[:3], row[3:6], up / max(float(np.linalg.norm(up)), 1e-9)), float(np.exp(row[9]))
    )
