"""The cameras that are given for the frames of a capture."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from lift.io.cameras import PINHOLES, View, joined, read_views
from lift.io.image import picture_size, working_size
from lift.io.lens import inner_camera, needs_turning, same_aspect, squared_size, undistorted
from lift.io.sources import PictureSource, Source
from lift.types import Cameras


@dataclass(frozen=True)
class KnownCameras:
    """A camera and a lens for each frame of a source."""

    cameras: Cameras
    """[frame] of the full pictures, in the source's order."""
    lenses: tuple[tuple[float, ...], ...]
    """Coefficients of each frame's lens (`lift.io.lens.distorted`)."""
    names: tuple[str, ...]
    camera_size: tuple[int, int]
    """Width and height of the pictures as the camera file describes them."""
    digest: str
    """SHA-256 of all cameras and lenses."""

    @property
    def has_lens(self) -> bool:
        """Whether a lens distorts."""
        return any(any(lens) for lens in self.lenses)

    def target_size(self, size: int, notes: list[str]) -> tuple[int, int]:
        """Find width and height at which the frames are worked on; see `working_size`."""
        across, down = squared_size(self.cameras[0])
        width, height, _ = working_size(round(across), round(down), size, notes)
        return width, height

    def undistorted(
        self, index: int, image: UInt8[Tensor, "y x 3"], size: tuple[int, int]
    ) -> tuple[UInt8[Tensor, "height width 3"], Cameras]:
        """Undo the lens distortion of a frame.

        Args:
            index: The frame's index in the source.
            image: Its pixels at full size.
            size: Width and height of the result.

        Returns:
            The frame as a pinhole camera takes it, and that camera.
        """
        camera = self.cameras[index]
        target = inner_camera(camera, self.lenses[index], size, self.names[index])
        return undistorted(image, camera, self.lenses[index], target), target


def read_known(path: str, source: Source) -> KnownCameras:
    """Read the cameras of a source's frames from a file or a COLMAP folder.

    Cameras are matched to pictures by file name, to a video's frames by index. Those of a file
    without names are matched by index too.

    Args:
        path: The setting `cameras`.
        source: The frames.

    Returns:
        A camera for each frame.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A frame has no camera, or a camera does not fit its picture.
    """
    stored = _stored_size(source)
    views = read_views(Path(path).expanduser(), stored)
    views = _matched(views, source, path)
    for view, name in zip(views, source.names, strict=True):
        if view.model not in ("", *PINHOLES):
            raise ValueError(
                f"cameras={path}: {name} has a camera of the model {view.model}; known are "
                f"{', '.join(PINHOLES)}"
            )
        if not np.isfinite(view.lens).all():
            raise ValueError(f"cameras={path}: {name} has a lens distortion that is not finite")
        if view.size != views[0].size and not same_aspect(views[0].size, view.size):
            raise ValueError(
                f"cameras={path}: the cameras of {source.names[0]} and {name} have pictures of "
                f"another aspect, {views[0].size} and {view.size}"
            )
    size = views[0].size
    width, height = _full_size(source, size)
    cameras = joined([view.resized(width, height) for view in views], path)
    digest = hashlib.sha256()
    for view in views:
        facts = (view.world_to_camera.tolist(), view.focal, view.center, view.size, view.lens)
        digest.update(repr(facts).encode())
    lenses = tuple(tuple(view.lens) for view in views)
    return KnownCameras(cameras, lenses, source.names, size, digest.hexdigest())


def _stored_size(source: Source) -> tuple[int, int]:
    if isinstance(source, PictureSource):
        return picture_size(source.files[0], upright=False)
    return source.size()


def _full_size(source: Source, camera_size: tuple[int, int]) -> tuple[int, int]:
    """Size of the frames, turned as the cameras describe them."""
    if isinstance(source, PictureSource):
        return source.common_size(lambda file: picture_size(file, needs_turning(file, camera_size)))
    full = source.size()
    if not same_aspect(full, camera_size):
        raise ValueError(
            f"frames are {full[0]} x {full[1]} pixels, their cameras' pictures {camera_size[0]} x "
            f"{camera_size[1]}; expected the same aspect"
        )
    return full


def _matched(views: Sequence[View], source: Source, path: str) -> list[View]:
    """A view for each frame."""
    by_name = isinstance(source, PictureSource) and not all(_nameless(view) for view in views)
    if not by_name:
        if len(views) != len(source.names):
            raise ValueError(
                f"cameras={path} holds {len(views)} cameras without names of pictures, but there "
                f"are {len(source.names)} frames; cameras are matched to them by index"
            )
        return list(views)
    found = [_view_of(source.files[index], views, path) for index in range(len(source.names))]
    if missing := [name for name, view in zip(source.names, found, strict=True) if view is None]:
        raise ValueError(
            f"cameras={path} has no camera of {missing[0]!r}; missing are those of {len(missing)} "
            f"of {len(found)} pictures. Its first camera is called {views[0].name!r}"
        )
    return [view for view in found if view is not None]


def _nameless(view: View) -> bool:
    """Whether a camera names no picture; RealEstate10K's are called by their time."""
    return not view.name or (view.name.isdecimal() and len(view.name) > 4)


def _view_of(file: Path, views: Sequence[View], path: str) -> View | None:
    """The view that names a picture: by its file's name, else without the suffix."""
    for part in ("name", "stem"):
        wanted = getattr(file, part)
        found = [view for view in views if getattr(_posix(view.name), part) == wanted]
        if len(found) > 1:  # names of several folders
            whole = file.as_posix()
            deeper = [view for view in found if whole.endswith(_posix(view.name).as_posix())]
            found = deeper or found
        if len(found) > 1:
            raise ValueError(f"cameras={path} has {len(found)} cameras of {wanted!r}")
        if found:
            return found[0]
    return None


def _posix(name: str) -> PurePosixPath:
    return PurePosixPath(name.replace("\\", "/"))
