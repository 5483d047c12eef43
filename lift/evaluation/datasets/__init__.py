"""Scenes of which more than one view is known.

A dataset names its scenes and reads each as a `Capture`: views with their cameras, in units of its own, and whatever else is known of them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lift.registry import Registry
from lift.types import Cameras, Frames, PointCloud


@dataclass(frozen=True)
class Capture:
    """Views of one scene. Everything is in the dataset's unit of length and in its world's axes."""

    scene: str
    views: tuple[str, ...]
    """Their names, such as the pictures' files, in the dataset's order."""
    cameras: Cameras
    """[view] of the pictures as they were taken, but for what their lens distorts."""
    inner: Callable[[int, int], Cameras]
    """Of a view and a longer side in pixels: the pinhole camera of one view at the same pose, with its principal point in the middle and square pixels,
    that sees as much as the picture shows of everything it sees."""
    look: Callable[[int, Cameras], Frames]
    """Of a view and a pinhole camera at its pose: what that camera takes, one frame, lens distortion undone; its depth where the dataset measures it. Several
    threads look at the same time."""
    points: PointCloud | None = None
    """Of structure from motion."""
    image: str | None = None
    """The built-in picture that the first view is, where it is one: priors and depths that know it go by its name."""
    metric: bool = False
    """Whether lengths are metres."""
    folder: Path | None = None
    """Where the scene lies, and files with splits may lie beside it."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """What of the dataset's own a table should tell: licence, source, what its cameras come from."""


class Dataset(ABC):
    """Settings are positional parameters of the constructor; most have `path`, the dataset's folder or a single scene's, and `scenes`, those to take."""

    @abstractmethod
    def scenes(self) -> list[str]:
        """Names, in a fixed order. Raises FileNotFoundError that says what was expected where."""

    @abstractmethod
    def capture(self, scene: str) -> Capture:
        """Raises FileNotFoundError or ValueError that names the file, what is wrong with it, and what was expected."""


datasets: Registry[Dataset] = Registry("dataset", Dataset)
