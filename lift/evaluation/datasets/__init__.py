"""Read datasets of scenes with several known views.

A dataset lists its scenes and reads each as a `CalibratedCapture`: views with their cameras, in the
dataset's unit, and other known facts.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lift.registry import Registry
from lift.types import Cameras, Frames, PointCloud


@dataclass(frozen=True)
class CalibratedCapture:
    """Views of one scene with known cameras, in the dataset's unit of length and world."""

    scene: str
    """Name of the scene."""
    views: tuple[str, ...]
    """Names of the views, such as file names, in the dataset's order."""
    cameras: Cameras
    """Cameras [view] of the pictures as recorded, without lens distortion."""
    inner_camera: Callable[[int, int], Cameras]
    """Returns a pinhole camera for the index of a view and a longer side in pixels.

    It is one view at the same pose, with its principal point at the centre and square pixels. It
    sees as much as possible, but nothing outside of the picture.
    """
    load_view: Callable[[int, Cameras], Frames]
    """Returns one frame for the index of a view and a pinhole camera at its pose.

    Lens distortion is undone. The frame has depth if the dataset measures it. Several threads call
    it at the same time.
    """
    points: PointCloud | None = None
    """Points of structure from motion."""
    image: str | None = None
    """Name of the first view as a built-in picture, if it is one. Priors and depths refer to it."""
    metric: bool = False
    """Whether lengths are in metres."""
    folder: Path | None = None
    """Folder of the scene. Files with splits may be in it or beside it."""
    is_allowed: Callable[[Path], bool] | None = None
    """Whether a file may be read for the scene. None allows all, as of a dataset without files."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """Facts that belong into a table: licence, source, origin of the cameras."""


class Dataset(ABC):
    """A dataset of scenes with several known views.

    The positional parameters of a constructor are settings. Most datasets have `path`, the folder
    of the dataset or of a single scene, and `scenes`, the names of the scenes to use.
    """

    @abstractmethod
    def scenes(self) -> list[str]:
        """List the scenes in a fixed order.

        Returns:
            Names of the scenes.

        Raises:
            FileNotFoundError: There is no scene. The message says which files are expected.
        """

    @abstractmethod
    def capture(self, scene: str) -> CalibratedCapture:
        """Read a scene.

        Args:
            scene: Name of the scene.

        Returns:
            The scene.

        Raises:
            FileNotFoundError: A file does not exist. The message says which files are expected.
            ValueError: A file is invalid. The message names the file and the defect.
        """


datasets: Registry[Dataset] = Registry("dataset", Dataset)
"""Registry of the datasets."""
