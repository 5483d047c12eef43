"""Read the files of a run's folder, and keep the frames' depth and cameras in it.

So a run can be loaded anywhere, and damage is found.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lift.io.capture import Capture
from lift.io.image import Picture, read_image
from lift.outputs.quality import RunResult
from lift.runtime.atomic_io import copy_path
from lift.runtime.integrity import (
    MANIFEST,
    DamagedFileError,
    damage_of,
    identify,
    read_manifest,
    verify_files,
)
from lift.runtime.parallel import parallel_map
from lift.runtime.serialization import load, save
from lift.stages.views import Views
from lift.types import Depth, Frames, PointCloud, Reconstruction

T = TypeVar("T")

VIEWS = "views"
"""Folder of the depth and the cameras of the frames, below the folder of a run."""

FRAMES = "frames"
"""Folder of the frames, below the folder of a run."""

MAX_TRIES = 20
"""How often a file is read if a run replaces its folder each time."""

MAX_POINTS = 50_000
"""Approximate largest number of points that are kept."""

MAX_DEPTH = 60_000.0
"""Largest depth in units of the typical depth. Half precision holds a little more."""


class RunFiles:
    """The files of a run's folder. Each is compared with the run's manifest when it is read first.

    Folders of older versions have no manifest. Their files are read as they are.

    A run may replace the folder at any moment. What is read is always of one result, the one that
    was there at first.

    Args:
        folder: Folder of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._verified: set[str] = set()
        self._manifest: dict[str, Any] | None = None
        self._identity: tuple[int, ...] | None = None
        self._is_used = False
        self._is_replaced = False

    def verify(self, name: str) -> None:
        """Check a file, or all files of a folder, once.

        Args:
            name: Name of the file or folder.

        Raises:
            ValueError: A file is damaged, or is of another result than the files before.
        """
        if name not in self._verified:
            self._on_one_result(lambda: self._check(name))

    def read(self, name: str, reader: Callable[[Path], T]) -> T:
        """Read a file or a folder, after checking it.

        Args:
            name: Name of the file or folder.
            reader: Reads the path that it receives.

        Returns:
            What the reader returns.

        Raises:
            ValueError: It is damaged, or is of another result than the files before.
        """

        def check_and_read() -> T:
            self._check(name)
            with damage_of(self.folder / name):
                return reader(self.folder / name)

        return self._on_one_result(check_and_read)

    def copy(self, name: str, folder: Path) -> bool:
        """Copy a file or a folder, and check the copy. So what is checked is what is used.

        Args:
            name: Name of the file or folder.
            folder: Existing folder in which the copy gets the same name.

        Returns:
            Whether it exists.

        Raises:
            ValueError: It is damaged, or is of another result than the files before.
        """

        def copy_and_check() -> bool:
            if not os.path.lexists(self.folder / name):
                return False
            with damage_of(self.folder / name):
                copy_path(self.folder / name, folder / name)
            try:
                verify_files(folder, self._recorded(name))
            except DamagedFileError as error:
                path = self.folder / error.path.relative_to(folder)
                raise DamagedFileError(path, error.reason) from None
            return True

        return self._on_one_result(copy_and_check)

    def _on_one_result(self, action: Callable[[], T]) -> T:
        """Check or read files, again if a run has replaced the folder meanwhile."""
        for _ in range(MAX_TRIES):
            identity = identify(self.folder)
            if identity != self._identity:
                self._accept(identity)
            value, failure = None, None
            try:
                if self._manifest is None and (self.folder / MANIFEST).exists():
                    self._manifest = read_manifest(self.folder)
                value = action()
            except DamagedFileError as error:
                failure = error
            if identify(self.folder) != identity:
                continue
            if failure is not None:
                raise self._error(failure) from None
            self._is_used = True
            return cast(T, value)
        raise self._replaced()

    def _accept(self, identity: tuple[int, ...]) -> None:
        """Go on with a folder that is there now. The manifest of files that were read stays."""
        if self._is_used:
            self._is_replaced = True
            if self._manifest is None:
                raise self._replaced()
        else:
            self._manifest = None
        self._identity = identity
        self._verified.clear()

    def _check(self, name: str) -> None:
        """Compare a file or folder with the manifest.

        Raises:
            DamagedFileError: It differs.
        """
        if name in self._verified:
            return
        verify_files(self.folder, self._recorded(name))
        self._verified.add(name)

    def _recorded(self, name: str) -> dict[str, Any]:
        """Return the manifest of a file, or of the files of a folder."""
        files = (self._manifest or {}).get("files", {})
        own = {
            file: sums
            for file, sums in files.items()
            if file == name or file.startswith(f"{name}/")
        }
        return {"files": own}

    def read_json(self, name: str) -> Any:
        """Read a JSON file.

        Args:
            name: Name of the file.
        """
        return self.read(name, lambda path: json.loads(path.read_text(encoding="utf-8")))

    def _error(self, error: DamagedFileError) -> ValueError:
        """Return the error that says what to do."""
        if self._is_replaced:
            return self._replaced()
        advice = "repeat the command that made the run, which finds its stages in the cache"
        if self._manifest:
            advice += f"; or, if the change is yours, remove {self.folder / MANIFEST}"
        return ValueError(f"{error}; {advice}")

    def _replaced(self) -> ValueError:
        """Return the error for a folder that has another result than at first."""
        return ValueError(
            f"{self.folder} has another result than when it was loaded: a run has delivered to it "
            "meanwhile; load it again"
        )


def write_views(folder: Path, result: RunResult) -> None:
    """Write what a run knows of its frames, besides their pictures.

    Depth has half precision, in units of the typical depth. Confidence and colours have 8 bits. Of
    a large point cloud an even subset is kept, with its outermost points.

    Args:
        folder: Folder of the run.
        result: The result of the run.
    """
    reconstruction = result.reconstruction
    typical = result.depth.typical
    capture = result.capture
    points = _thin(reconstruction.points)
    value = {
        "depth": result.depth,
        "trajectory": result.trajectory,
        "cameras": reconstruction.cameras,
        "frame_depth": (reconstruction.depth / typical).clamp(max=MAX_DEPTH).half(),
        "confidence": _to_bytes(reconstruction.confidence),
        "points": points.points,
        "colors": (points.colors.clamp(0, 1) * 255).round().to(torch.uint8),
        "true_cameras": result.true_cameras,
        "exact_depth": result.frames.depth is not None,
        "multiview_consistent": result.multiview_consistent,
        "picture": _picture_facts(result.picture),
        "camera": result.picture.cameras,
        "capture": None if capture is None else _capture_facts(capture),
    }
    target = folder / VIEWS
    target.mkdir(exist_ok=True)
    save(value, target)


def read_frames(folder: Path) -> Frames:
    """Read the pictures of the frames, the input first.

    Args:
        folder: Folder of a run.
    """
    files = sorted((folder / FRAMES).glob("*.png"))
    return Frames(torch.stack(parallel_map(read_image, files)))


def read_views(folder: Path, frames: Frames) -> tuple[Picture, Views, Capture | None]:
    """Read what `write_views` wrote.

    Args:
        folder: Folder of a run.
        frames: Value of `read_frames`.

    Returns:
        The input, the frames with their cameras and depth, and the source of recorded frames.
    """
    value = load(folder / VIEWS)
    depth: Depth = value["depth"]
    reconstruction = Reconstruction(
        value["cameras"],
        PointCloud(value["points"], value["colors"].float() / 255),
        value["frame_depth"].float() * depth.typical,
        value["confidence"].float() / 255,
    )
    if value["exact_depth"]:
        frames = Frames(frames.images, reconstruction.depth)
    trajectory = value["trajectory"]
    picture = Picture(frames=Frames(frames.images[:1]), cameras=value["camera"], **value["picture"])
    capture = None
    if facts := value["capture"]:
        capture = Capture(picture=picture, frames=frames, trajectory=trajectory, **facts)
    views = Views(
        depth,
        trajectory,
        frames,
        reconstruction,
        key="",
        multiview_consistent=value["multiview_consistent"],
        true_cameras=value["true_cameras"],
    )
    return picture, views, capture


def _picture_facts(picture: Picture) -> dict[str, Any]:
    """Return the fields of a picture that are neither its pixels nor its camera."""
    return {
        "name": picture.name,
        "digest": picture.digest,
        "notes": picture.notes,
        "focal_known": picture.focal_known,
        "full_size": picture.full_size,
    }


def _capture_facts(capture: Capture) -> dict[str, Any]:
    """Return the fields of a capture that are neither frames nor cameras."""
    return {
        "names": capture.names,
        "source_index": capture.source_index,
        "ordered": capture.ordered,
        "kind": capture.kind,
        "digest": capture.digest,
    }


def _to_bytes(confidence: Float[Tensor, "view height width"]) -> UInt8[Tensor, "view height width"]:
    """Convert confidence to 8 bits. It stays 0 only where it is 0, which means not registered."""
    return (confidence.clamp(0, 1) * 255).ceil().to(torch.uint8)


def _thin(points: PointCloud) -> PointCloud:
    """Return at most about `MAX_POINTS` points, with the same bounds."""
    stride = -(-len(points) // MAX_POINTS)
    if stride <= 1:
        return points
    outermost = [*points.points.argmin(0).tolist(), *points.points.argmax(0).tolist()]
    indices = {*range(0, len(points), stride), *outermost}
    return points[torch.tensor(sorted(indices))]
