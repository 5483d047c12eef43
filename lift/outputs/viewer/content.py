"""What a viewer shows: Gaussians, and what is known of the run that made them."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lift.config.delivery_schema import FULL
from lift.geometry import look_at, pinhole
from lift.io.cameras import TRANSFORMS, read_cameras
from lift.io.splats import read_splats
from lift.outputs.view_region import ViewRegion
from lift.outputs.viewer.splats import quantiles
from lift.runtime.live_job import lasting_folder
from lift.types import Cameras, Gaussians

DEFAULT_SIZE = (960, 640)
"""Width and height in pixels of the first view of a file without cameras."""

DEFAULT_FOCAL = 900.0
"""Its focal length in pixels."""

MIN_IN_FRONT = 0.5
"""Part of the Gaussians that lie before a camera at the origin, in files that have the input there.

In other files, the first view is from outside of the scene.
"""


@dataclass(frozen=True)
class ViewerContent:
    """Gaussians, and what belongs to them."""

    gaussians: Gaussians
    """The scene."""
    label: str
    """Its name, the title of the page."""
    cameras: Cameras | None = None
    """Cameras of the frames, the input first. None: unknown."""
    fly_through: Cameras | None = None
    """Cameras of the fly-through. None: there is none."""
    run: Any = None
    """The finished run, a `lift.Scene`. None: a file, or a run that is not finished."""
    folder: Path | None = None
    """Folder in which camera paths are saved. None: the current one."""
    status: str = ""
    """A line about what is shown, such as "preview, before the fit"."""

    @cached_property
    def region(self) -> ViewRegion | None:
        """Where views stay covered. None: unknown, because the content is no finished run."""
        return None if self.run is None else self.run.view_region

    @property
    def has_frames(self) -> bool:
        """Whether there are pictures and distortions of the frames."""
        return self.run is not None and self.run.keep == FULL

    @cached_property
    def input_camera(self) -> Cameras:
        """The first view, and that of the button `home`."""
        if self.cameras is not None:
            return self.cameras[:1]
        return _first_camera(self.gaussians)

    @cached_property
    def typical_depth(self) -> float:
        """Median depth of the Gaussians before the input camera, in scene units, above 0."""
        depth = _depth_from(self.input_camera, self.gaussians)
        return max(float(depth[depth > 0].median()), 1e-6) if bool((depth > 0).any()) else 1.0

    @property
    def orbit_distance(self) -> float:
        """Distance of the input camera from the point that it orbits."""
        return self.typical_depth if self.region is None else self.region.input_distance


def run_content(run: Any) -> ViewerContent:
    """Return the content of a finished run.

    Args:
        run: The run, a `lift.Scene`.
    """
    folder = run.folder.resolve()
    label = f"{folder.parent.name} / {folder.name}"
    return ViewerContent(run.gaussians, label, run.cameras, run.fly_through, run, run.folder)


def file_content(path: Path) -> ViewerContent:
    """Read the Gaussians of a file, and the cameras beside it, if there are any.

    Args:
        path: A file of Gaussians. A transforms.json in its folder has the cameras.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is damaged, or holds no Gaussians.
    """
    beside = path.parent / TRANSFORMS
    cameras = read_cameras(beside) if beside.is_file() else None
    label = path.resolve().parent.name if cameras is not None else path.name
    folder = lasting_folder(path.parent)
    return ViewerContent(read_splats(path), label, cameras, folder=folder)


def _depth_from(camera: Cameras, gaussians: Gaussians) -> Float[Tensor, "gaussian"]:
    """Return the depth of each Gaussian in the camera."""
    pose = camera.world_to_camera[0]
    return gaussians.means @ pose[2, :3] + pose[2, 3]


def _first_camera(gaussians: Gaussians) -> Cameras:
    """Return a camera at the origin, where `lift` has the input, or before the whole scene."""
    camera = pinhole(*DEFAULT_SIZE, DEFAULT_FOCAL)
    means = gaussians.means
    depth = _depth_from(camera, gaussians)
    if len(means) == 0 or float((depth > 0).float().mean()) >= MIN_IN_FRONT:
        return camera
    center = means.median(dim=0).values
    (distance,) = quantiles((means - center).norm(dim=-1), (0.8,))
    radius = max(distance, 1e-6)
    eye = center - torch.tensor([0.0, 0.0, 2 * radius])
    pose = look_at(eye, center, torch.tensor([0.0, 1.0, 0.0]))
    return Cameras(pose[None], camera.intrinsics, camera.width, camera.height)
