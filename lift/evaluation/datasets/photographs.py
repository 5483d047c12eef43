"""What datasets of photographs share."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from lift.evaluation.datasets import Capture, Dataset
from lift.io.cameras import PINHOLES, View, joined, natural, read_points
from lift.io.image import picture_size
from lift.io.lens import Photograph, needs_turning
from lift.types import PointCloud

PICTURES = (".png", ".jpg", ".jpeg")


class Photographs(Dataset):
    """path: the folder of the dataset, or of a single scene.
    scenes: names of those to take, which are their folders'; None: all.
    """

    licence = "see its page"
    source = ""
    """Where to get it."""
    expected = ""
    """What makes a folder a scene, in words."""

    def __init__(self, path: Path, scenes: tuple[str, ...] | None = None) -> None:
        self.path, self.asked = Path(path).expanduser(), scenes

    def holds(self, folder: Path) -> bool:
        """Whether it is a scene's."""
        raise NotImplementedError

    def found(self) -> dict[str, Path]:
        """Every scene that is there, asked for or not, and where it lies."""
        if not self.path.is_dir():
            return {}
        if self.holds(self.path):
            return {self.path.resolve().name: self.path}
        return {
            child.name: child
            for child in sorted(self.path.iterdir(), key=lambda child: natural(child.name))
            if child.is_dir() and self.holds(child)
        }

    def places(self) -> dict[str, Path]:
        """The scenes to take. Raises FileNotFoundError or ValueError, as `scenes` does."""
        if not self.path.exists():
            raise FileNotFoundError(
                f"dataset.path is {self.path}, which is not there; expected {self.expected}"
            )
        if not (found := self.found()):
            raise FileNotFoundError(
                f"{self.path} holds no scene: expected {self.expected}, in it or in a folder for each scene"
            )
        for name in self.asked or ():
            if name not in found:
                lacking = (
                    f" (its folder is there, but not {self.expected})"
                    if (self.path / name).is_dir()
                    else ""
                )
                raise ValueError(
                    f"dataset.scenes has {name!r}, which is not in {self.path}{lacking}; there are {', '.join(found)}"
                )
        return {name: found[name] for name in self.asked or found}

    def scenes(self) -> list[str]:
        return list(self.places())

    def place(self, scene: str) -> Path:
        places = self.places()
        if scene not in places:
            raise ValueError(
                f"there is no scene {scene!r} in {self.path}; there are {', '.join(places)}"
            )
        return places[scene]

    def captured(
        self,
        scene: str,
        folder: Path,
        views: Sequence[View],
        pictures: Sequence[Path],
        points: PointCloud | None,
        notes: Mapping[str, str] | None = None,
    ) -> Capture:
        """A capture of views, with a picture each, of whatever size the files have: cameras are scaled to it. Raises FileNotFoundError or ValueError."""
        if not views:
            raise ValueError(f"{folder} holds no cameras")
        if missing := [picture for picture in pictures if not picture.is_file()]:
            raise FileNotFoundError(
                f"{missing[0]} is not there: missing are {len(missing)} of the {len(pictures)} pictures that the scene's cameras took"
            )
        for view, picture in zip(views, pictures, strict=True):
            if view.model not in ("", *PINHOLES):
                raise ValueError(
                    f"{picture} was taken by a camera of the model {view.model}; known are {', '.join(PINHOLES)}"
                )
            if not np.isfinite(view.lens).all():
                raise ValueError(
                    f"{picture} was taken by a lens with a distortion that is not finite: {view.lens}"
                )
        turned = [needs_turning(pictures[0], views[0].size)]
        width, height = size = picture_size(pictures[0], turned[0])
        for view, picture in zip(views[1:], pictures[1:], strict=True):
            if (other := picture_size(picture, turned[0])) == size:
                turned.append(needs_turning(picture, view.size))
                other = picture_size(picture, turned[-1])
            if other != size:
                raise ValueError(
                    f"{picture} is {other[0]} x {other[1]} pixels, {pictures[0]} {width} x {height}; pictures of a scene have one size"
                )
        cameras = joined([view.resized(width, height) for view in views], str(folder))
        taken = [
            Photograph(picture, cameras[k], view.lens, turned[k])
            for k, (view, picture) in enumerate(zip(views, pictures, strict=True))
        ]
        return Capture(
            scene=scene,
            views=tuple(
                view.name or picture.name for view, picture in zip(views, pictures, strict=True)
            ),
            cameras=cameras,
            inner=lambda view, longer: taken[view].inner(longer),
            look=lambda view, camera: taken[view].look(camera),
            points=points if points is not None and len(points) else None,
            folder=folder,
            notes={"licence": self.licence, "source": self.source} | dict(notes or {}),
        )


def folder_of_pictures(folder: Path, factor: int | None, preferred: Sequence[int]) -> Path:
    """`images_4` and the like in a scene's folder (`images` for 1): that of `factor`, or the first of those preferred. Raises FileNotFoundError."""
    if factor is not None and factor < 1:
        raise ValueError(
            f"dataset.factor is {factor}; choose 1 for images, 4 for images_4 and so on"
        )
    names = [f"images_{k}" if k > 1 else "images" for k in ([factor] if factor else preferred)]
    for name in names:
        if (folder / name).is_dir():
            return folder / name
    there = (
        ", ".join(sorted(child.name for child in folder.glob("images*") if child.is_dir()))
        or "no other"
    )
    raise FileNotFoundError(
        f"there is no folder of pictures {' or '.join(names)} in {folder}; there is {there}"
    )


def picture(named: str, *folders: Path) -> Path:
    """The file of a picture, whose suffix may be another, in the first folder that has it; else where it was expected first.

    Raises ValueError for a camera that names none.
    """
    if not named:
        raise ValueError(
            f"a camera of the scene names no picture; expected names of files in {folders[0]}"
        )
    for folder in folders:
        if (folder / named).is_file():
            return folder / named
    for folder in folders:
        for suffix in PICTURES:
            for path in (
                (folder / named).with_suffix(suffix),
                (folder / named).with_suffix(suffix.upper()),
            ):
                if path.is_file():
                    return path
    return folders[0] / named


def model_of(folder: Path, places: Sequence[str]) -> Path | None:
    """The first of the places in a scene's folder where a COLMAP model lies, whole or not."""
    files = [f"{part}.{form}" for part in ("cameras", "images") for form in ("txt", "bin")]
    return next(
        (
            folder / place
            for place in places
            if any((folder / place / file).is_file() for file in files)
        ),
        None,
    )


def points_beside(file: Path, content: Mapping, models: Sequence[str]) -> PointCloud | None:
    """Of nerfstudio's transforms.json (its content): the PLY file it names, which lies in the world of its cameras, or COLMAP's points, which do not until
    `applied_transform` [3 4] is applied. Raises ValueError.
    """
    if (named := content.get("ply_file_path")) and (
        points := read_points(file.parent / named)
    ) is not None:
        return points
    points = next(
        (found for model in models if (found := read_points(file.parent / model)) is not None), None
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
    rotation, moved = torch.from_numpy(applied[:3, :3]), torch.from_numpy(applied[:3, 3])
    return replace(points, points=(points.points.double() @ rotation.mT + moved).float())
