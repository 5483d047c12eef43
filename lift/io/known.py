"""Read the cameras that a user supplies for the frames of a capture."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from lift.io.cameras import read_views
from lift.io.image import picture_size, working_size
from lift.io.lens import inner_camera, needs_rotation, same_aspect, square_pixel_size, undistort
from lift.io.names import user_path
from lift.io.sources import PictureSource, Source
from lift.io.views import PINHOLES, View, stack_views
from lift.types import Cameras


@dataclass(frozen=True)
class KnownCameras:
    """A camera and lens coefficients for each frame of a source."""

    cameras: Cameras
    """Cameras [frame] of the pictures at full size, in the source's order."""
    lenses: tuple[tuple[float, ...], ...]
    """Coefficients of each frame's lens (`lift.io.lens.distort`)."""
    names: tuple[str, ...]
    """Name of each frame in the source."""
    camera_size: tuple[int, int]
    """Width and height of the pictures as the camera file describes them."""
    digest: str
    """SHA-256 of all cameras and lenses."""

    @property
    def has_lens(self) -> bool:
        """Whether a lens of the source has distortion."""
        return any(any(lens) for lens in self.lenses)

    def target_size(self, size: int, notes: list[str]) -> tuple[int, int]:
        """Compute the size of the frames in the run.

        Args:
            size: Largest length of the longer side in pixels.
            notes: Receives sentences about crops, as `working_size` writes them.

        Returns:
            Width and height in pixels.
        """
        full_width, full_height = square_pixel_size(self.cameras[0])
        width, height, _ = working_size(round(full_width), round(full_height), size, notes)
        return width, height

    def undistort(
        self, index: int, image: UInt8[Tensor, "y x 3"], size: tuple[int, int]
    ) -> tuple[UInt8[Tensor, "height width 3"], Cameras]:
        """Undo the lens distortion of a frame.

        Args:
            index: The frame's index in the source.
            image: Its pixels at full size.
            size: Width and height of the result in pixels.

        Returns:
            The frame as a pinhole camera records it, and that camera.
        """
        camera = self.cameras[index]
        target = inner_camera(camera, self.lenses[index], size, self.names[index])
        return undistort(image, camera, self.lenses[index], target), target


def read_known_cameras(path: str, source: Source) -> KnownCameras:
    """Read the cameras of a source's frames from a file or a COLMAP folder.

    Cameras are matched to pictures by file name and to frames of a video by index. Cameras of a
    file without names are matched by index.

    Args:
        path: The setting `cameras`.
        source: The frames.

    Returns:
        A camera for each frame.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: A frame has no camera, or a camera does not fit its picture.
    """
    stored = _stored_size(source)
    views = read_views(user_path(path), stored)
    views = _match_views(views, source, path)
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
    cameras = stack_views([view.resized(width, height) for view in views], path)
    digest = hashlib.sha256()
    for view in views:
        facts = (view.world_to_camera.tolist(), view.focal, view.center, view.size, view.lens)
        digest.update(repr(facts).encode())
    lenses = tuple(tuple(view.lens) for view in views)
    return KnownCameras(cameras, lenses, source.names, size, digest.hexdigest())


def _stored_size(source: Source) -> tuple[int, int]:
    """Return width and height of the frames as their files store them."""
    if isinstance(source, PictureSource):
        return picture_size(source.files[0], upright=False)
    return source.size()


def _full_size(source: Source, camera_size: tuple[int, int]) -> tuple[int, int]:
    """Return the size of the frames, rotated as the cameras describe them."""
    if isinstance(source, PictureSource):
        return source.common_size(
            lambda file: picture_size(file, needs_rotation(file, camera_size))
        )
    full = source.size()
    if not same_aspect(full, camera_size):
        raise ValueError(
            f"frames are {full[0]} x {full[1]} pixels, their cameras' pictures {camera_size[0]} x "
            f"{camera_size[1]}; expected the same aspect"
        )
    return full


def _match_views(views: Sequence[View], source: Source, path: str) -> list[View]:
    """Find the view of each frame."""
    if not isinstance(source, PictureSource) or all(_has_no_name(view) for view in views):
        if len(views) != len(source.names):
            raise ValueError(
                f"cameras={path} holds {len(views)} cameras without names of pictures, but there "
                f"are {len(source.names)} frames; cameras are matched to them by index"
            )
        return list(views)
    matches = [_find_view(source.files[index], views, path) for index in range(len(source.names))]
    if missing := [name for name, view in zip(source.names, matches, strict=True) if view is None]:
        raise ValueError(
            f"cameras={path} has no camera of {missing[0]!r}; missing are those of {len(missing)} "
            f"of {len(matches)} pictures. Its first camera is called {views[0].name!r}"
        )
    return [view for view in matches if view is not None]


def _has_no_name(view: View) -> bool:
    """Whether a camera names no picture. RealEstate10K uses timestamps as names."""
    return not view.name or (view.name.isdecimal() and len(view.name) > 4)


def _find_view(file: Path, views: Sequence[View], path: str) -> View | None:
    """Find the view that names a picture, first by the full file name, then without the suffix."""
    for part in ("name", "stem"):
        name = getattr(file, part)
        matches = [view for view in views if getattr(_posix(view.name), part) == name]
        if len(matches) > 1:  # names of several folders
            full_path = file.as_posix()
            longer_matches = [
                view for view in matches if full_path.endswith(_posix(view.name).as_posix())
            ]
            matches = longer_matches or matches
        if len(matches) > 1:
            raise ValueError(f"cameras={path} has {len(matches)} cameras of {name!r}")
        if matches:
            return matches[0]
    return None


def _posix(name: str) -> PurePosixPath:
    """Parse a path with slashes or backslashes."""
    return PurePosixPath(name.replace("\\", "/"))
