"""Read datasets of photographs."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lift.evaluation.datasets import CalibratedCapture, Dataset
from lift.evaluation.datasets.scene_files import PHOTO_SUFFIXES
from lift.io.files import is_file, is_inside, only_allowed
from lift.io.image import picture_size
from lift.io.lens import Photograph, needs_rotation
from lift.io.names import user_path
from lift.io.views import PINHOLES, View, natural_key, stack_views
from lift.types import PointCloud

_LOGGER = logging.getLogger(__name__)
_MIN_VIEWS = 2
"""Smallest number of views of a scene from which missing pictures are left out."""
_SUBFOLDERS = ("sparse", "colmap", "dense", "images", "nerfstudio")
"""Names of folders inside of a scene. Others are images_2, images_4 and numbers."""


class Photographs(Dataset):
    """A dataset of photographs in files, with one folder for each scene.

    Args:
        path: Folder of the dataset or of a single scene.
        scenes: Names of the scenes to use, which are their folders' names. None uses all.
        allow_outside: Whether files outside of `path` may be opened, to which cameras or symbolic
            links may point.
    """

    licence = "see its page"
    """Licence of the data."""
    source = ""
    """Address of the data."""
    expected = ""
    """Description of the files that make a folder a scene."""
    example_settings: Callable[[Path], dict[str, Any]] | None = None
    """Makes settings for the contract checks. None: the dataset has tests of its own."""

    def __init__(
        self,
        path: Path,
        scenes: tuple[str, ...] | None = None,
        allow_outside: bool = False,
    ) -> None:
        self.path = self.project_folder(user_path(path))
        self.scene_names = scenes
        self.allow_outside = allow_outside

    def project_folder(self, path: Path) -> Path:
        """Find the scene around a folder inside of it, such as `sparse/0` or `images`.

        Args:
            path: The setting `path`.

        Returns:
            The nearest folder around `path` that is a scene with pictures, if `path` has the name
            of a scene's subfolder and no pictures of its own. Otherwise `path`.
        """
        if not path.is_dir() or (path / "images").is_dir():
            return path
        folder = Path(os.path.abspath(path))  # without links, which may lead elsewhere
        while (folder.name.isdecimal() or folder.name.split("_")[0] in _SUBFOLDERS) and (
            folder != folder.parent
        ):
            folder = folder.parent
            has_pictures = (folder / "images").is_dir() or any(
                file.suffix.lower() in PHOTO_SUFFIXES for file in folder.iterdir()
            )
            if has_pictures and self.holds(folder):
                return folder
        return path

    def is_allowed(self, path: Path) -> bool:
        """Whether a file of a scene may be opened.

        Args:
            path: The file.

        Returns:
            True if it lies in the folder of the setting `path` after symbolic links are resolved,
            or if `allow_outside` is set.
        """
        root = self.path.parent if self.path.is_file() else self.path
        return self.allow_outside or is_inside(path, [root])

    def capture(self, scene: str) -> CalibratedCapture:
        """Read a scene. Each file is checked before it is opened (`is_allowed`).

        Args:
            scene: Name of the scene.

        Returns:
            The scene.

        Raises:
            PermissionError: A file lies outside of the dataset's folder.
        """
        with only_allowed(self.is_allowed):
            return self.read_scene(scene)

    def read_scene(self, scene: str) -> CalibratedCapture:
        """Read a scene for `capture`.

        Args:
            scene: Name of the scene.

        Returns:
            The scene, of `build_capture`.
        """
        raise NotImplementedError

    def holds(self, folder: Path) -> bool:
        """Whether a folder is a scene.

        Args:
            folder: The folder.

        Returns:
            True if the folder has the expected files.
        """
        raise NotImplementedError

    def find_scenes(self) -> dict[str, Path]:
        """Find all scenes of the dataset.

        Returns:
            Folder or file of each scene by name.
        """
        if not self.path.is_dir():
            return {}
        if self.holds(self.path):
            return {self.path.resolve().name: self.path}
        return {
            child.name: child
            for child in sorted(self.path.iterdir(), key=lambda child: natural_key(child.name))
            if child.is_dir() and self.holds(child)
        }

    def selected_scenes(self) -> dict[str, Path]:
        """Find the scenes to use.

        Returns:
            Folder or file of each scene by name.

        Raises:
            FileNotFoundError: The folder or its scenes do not exist.
            ValueError: A scene to use does not exist.
        """
        if not self.path.exists():
            raise FileNotFoundError(
                f"dataset.path is {self.path}, which is not there; expected {self.expected}"
            )
        if not (folders := self.find_scenes()):
            raise FileNotFoundError(
                f"{self.path} holds no scene: expected {self.expected}, in it or in a folder for "
                "each scene"
            )
        for name in self.scene_names or ():
            if name not in folders:
                lacking = (
                    f" (its folder is there, but not {self.expected})"
                    if (self.path / name).is_dir()
                    else ""
                )
                raise ValueError(
                    f"dataset.scenes has {name!r}, which is not in {self.path}{lacking}; there are "
                    f"{', '.join(folders)}"
                )
        return {name: folders[name] for name in self.scene_names or folders}

    def scenes(self) -> list[str]:
        """List the scenes to use in natural order.

        Returns:
            Names of the scenes.
        """
        return list(self.selected_scenes())

    def scene_folder(self, scene: str) -> Path:
        """Find a scene.

        Args:
            scene: Name of the scene.

        Returns:
            Its folder or file.

        Raises:
            ValueError: There is no such scene.
        """
        folders = self.selected_scenes()
        if scene not in folders:
            raise ValueError(
                f"there is no scene {scene!r} in {self.path}; there are {', '.join(folders)}"
            )
        return folders[scene]

    def build_capture(
        self,
        scene: str,
        folder: Path,
        views: Sequence[View],
        pictures: Sequence[Path],
        points: PointCloud | None,
        notes: Mapping[str, str] | None = None,
    ) -> CalibratedCapture:
        """Build a scene from views and picture files.

        Views whose pictures do not exist are left out, with a note, if at least half of the
        pictures and two of them exist.

        Args:
            scene: Name of the scene.
            folder: Folder of the scene.
            views: Views of any picture size. They are scaled to the files.
            pictures: File of each view.
            points: Points of structure from motion.
            notes: Further facts that belong into a table.

        Returns:
            The scene.

        Raises:
            FileNotFoundError: Too many pictures do not exist.
            ValueError: There are no views, a camera is no pinhole, a picture lies outside of the
                dataset's folder, or the pictures differ in size.
        """
        if not views:
            raise ValueError(f"{folder} holds no cameras")
        for view, picture in zip(views, pictures, strict=True):
            if not self.is_allowed(picture):
                raise ValueError(
                    f"the cameras of {folder} name the picture {view.name[:200]!r}, which lies "
                    "outside of the dataset's folder; set dataset.allow_outside=true to read it"
                )
        notes = dict(notes or {})
        views, pictures = _existing_pictures(views, pictures, notes)
        _check_cameras(views, pictures)
        (width, height), upright = _common_size(views, pictures)
        cameras = stack_views([view.resized(width, height) for view in views], str(folder))
        photographs = [
            Photograph(picture, cameras[k], view.lens, upright[k])
            for k, (view, picture) in enumerate(zip(views, pictures, strict=True))
        ]
        return CalibratedCapture(
            scene=scene,
            views=tuple(
                view.name or picture.name for view, picture in zip(views, pictures, strict=True)
            ),
            cameras=cameras,
            inner_camera=lambda view, longer_side: photographs[view].inner_camera(longer_side),
            load_view=lambda view, camera: photographs[view].resample(camera),
            points=points if points is not None and len(points) else None,
            folder=folder,
            is_allowed=self.is_allowed,
            notes={"licence": self.licence, "source": self.source} | notes,
        )


def _existing_pictures(
    views: Sequence[View], pictures: Sequence[Path], notes: dict[str, str]
) -> tuple[Sequence[View], Sequence[Path]]:
    """Leave out views without a picture, and note them. Raise an error if they are too many."""
    existing = [number for number, picture in enumerate(pictures) if is_file(picture)]
    if len(existing) == len(pictures):
        return views, pictures
    missing = [picture for picture in pictures if not is_file(picture)]
    if len(existing) < max(_MIN_VIEWS, len(pictures) / 2):
        raise FileNotFoundError(
            f"{missing[0]} is not there: missing are {len(missing)} of the {len(pictures)} "
            "pictures that the scene's cameras took"
        )
    names = ", ".join(picture.name for picture in missing[:3])
    more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
    notes["left out"] = f"{len(missing)} of {len(pictures)} pictures are missing: {names}{more}"
    _LOGGER.warning(
        "%s is not there: %d of %d pictures are left out",
        missing[0],
        len(missing),
        len(pictures),
    )
    return [views[number] for number in existing], [pictures[number] for number in existing]


def _check_cameras(views: Sequence[View], pictures: Sequence[Path]) -> None:
    """Raise an error if a camera is no pinhole."""
    for view, picture in zip(views, pictures, strict=True):
        if view.model not in ("", *PINHOLES):
            raise ValueError(
                f"{picture} was taken by a camera of the model {view.model}; known are "
                f"{', '.join(PINHOLES)}"
            )
        if not np.isfinite(view.lens).all():
            raise ValueError(
                f"{picture} was taken by a lens with a distortion that is not finite: {view.lens}"
            )


def _common_size(
    views: Sequence[View], pictures: Sequence[Path]
) -> tuple[tuple[int, int], list[bool]]:
    """Return the size of all pictures, and which pictures must be rotated upright.

    A picture is rotated if only then it has the aspect of its camera.
    """
    upright = [needs_rotation(pictures[0], views[0].size)]
    size = picture_size(pictures[0], upright[0])
    for view, picture in zip(views[1:], pictures[1:], strict=True):
        if (other := picture_size(picture, upright[0])) == size:
            upright.append(needs_rotation(picture, view.size))
            other = picture_size(picture, upright[-1])
        if other != size:
            raise ValueError(
                f"{picture} is {other[0]} x {other[1]} pixels, {pictures[0]} {size[0]} x "
                f"{size[1]}; pictures of a scene have one size"
            )
    return size, upright
