"""Read datasets of photographs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lift.evaluation.datasets import CalibratedCapture, Dataset
from lift.io.image import picture_size
from lift.io.lens import Photograph, needs_rotation
from lift.io.points import read_points
from lift.io.views import PINHOLES, View, natural_key, stack_views
from lift.types import PointCloud

PHOTO_SUFFIXES = (".png", ".jpg", ".jpeg")


class Photographs(Dataset):
    """A dataset of photographs in files, with one folder for each scene.

    Args:
        path: Folder of the dataset or of a single scene.
        scenes: Names of the scenes to use, which are their folders' names. None uses all.
    """

    licence = "see its page"
    """Licence of the data."""
    source = ""
    """Address of the data."""
    expected = ""
    """Description of the files that make a folder a scene."""
    example_settings: Callable[[Path], dict[str, Any]] | None = None
    """Makes settings for the contract checks. None: the dataset has tests of its own."""

    def __init__(self, path: Path, scenes: tuple[str, ...] | None = None) -> None:
        self.path = Path(path).expanduser()
        self.scene_names = scenes

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
            FileNotFoundError: A picture does not exist.
            ValueError: There are no views, a camera is no pinhole, or the pictures differ in size.
        """
        if not views:
            raise ValueError(f"{folder} holds no cameras")
        _check_pictures(views, pictures)
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
            notes={"licence": self.licence, "source": self.source} | dict(notes or {}),
        )


def _check_pictures(views: Sequence[View], pictures: Sequence[Path]) -> None:
    """Raise an error if a picture does not exist or a camera is no pinhole."""
    if missing := [picture for picture in pictures if not picture.is_file()]:
        raise FileNotFoundError(
            f"{missing[0]} is not there: missing are {len(missing)} of the {len(pictures)} "
            "pictures that the scene's cameras took"
        )
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


def pictures_folder(folder: Path, factor: int | None, preferred: Sequence[int]) -> Path:
    """Find the folder of a scene's pictures, `images_4` and the like, or `images`.

    Args:
        folder: Folder of the scene.
        factor: k for images_k, 1 for images. None uses the first of `preferred` that exists.
        preferred: Factors in the order of preference.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: The folder does not exist.
        ValueError: The factor is less than 1.
    """
    if factor is not None and factor < 1:
        raise ValueError(
            f"dataset.factor is {factor}; choose 1 for images, 4 for images_4 and so on"
        )
    names = [f"images_{k}" if k > 1 else "images" for k in ([factor] if factor else preferred)]
    for name in names:
        if (folder / name).is_dir():
            return folder / name
    alternatives = (
        ", ".join(sorted(child.name for child in folder.glob("images*") if child.is_dir()))
        or "no other"
    )
    raise FileNotFoundError(
        f"there is no folder of pictures {' or '.join(names)} in {folder}; there is {alternatives}"
    )


def find_picture(name: str, *folders: Path) -> Path:
    """Find the file of a picture, whose suffix may differ.

    Args:
        name: Name of the picture in the camera file.
        *folders: Folders to search, in this order.

    Returns:
        The first file that exists. If there is none, the expected path in the first folder.

    Raises:
        ValueError: The name is empty.
    """
    if not name:
        raise ValueError(
            f"a camera of the scene names no picture; expected names of files in {folders[0]}"
        )
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    for folder in folders:
        for suffix in PHOTO_SUFFIXES:
            for path in (
                (folder / name).with_suffix(suffix),
                (folder / name).with_suffix(suffix.upper()),
            ):
                if path.is_file():
                    return path
    return folders[0] / name


def find_model(folder: Path, subfolders: Sequence[str]) -> Path | None:
    """Find the COLMAP model of a scene.

    Args:
        folder: Folder of the scene.
        subfolders: Subfolders to search, in this order.

    Returns:
        The first subfolder with at least one file of a model, or None.
    """
    files = [f"{part}.{form}" for part in ("cameras", "images") for form in ("txt", "bin")]
    return next(
        (
            folder / subfolder
            for subfolder in subfolders
            if any((folder / subfolder / file).is_file() for file in files)
        ),
        None,
    )


def read_scene_points(file: Path, content: Mapping, models: Sequence[str]) -> PointCloud | None:
    """Read the points that belong to a transforms.json of nerfstudio.

    A PLY file that it names is in the world of its cameras. COLMAP's points are moved there by its
    `applied_transform` [3 4].

    Args:
        file: The transforms.json.
        content: Its parsed content.
        models: Subfolders that may hold a COLMAP model.

    Returns:
        The points, or None.

    Raises:
        ValueError: A file or `applied_transform` is invalid.
    """
    if (ply_name := content.get("ply_file_path")) and (
        points := read_points(file.parent / ply_name)
    ) is not None:
        return points
    points = next(
        (cloud for model in models if (cloud := read_points(file.parent / model)) is not None), None
    )
    if points is None:
        return None
    try:
        applied = np.array(content.get("applied_transform", np.eye(4)[:3]), dtype=np.float64)
    except ValueError:
        applied = np.zeros(0)
    if applied.shape not in ((3, 4), (4, 4)):
        raise ValueError(
            f"{file}: applied_transform is of shape {applied.shape}; expected 3 rows of 4"
        )
    rotation = torch.from_numpy(applied[:3, :3])
    translation = torch.from_numpy(applied[:3, 3])
    return replace(points, points=(points.points.double() @ rotation.mT + translation).float())
