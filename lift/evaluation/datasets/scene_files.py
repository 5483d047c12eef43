"""Find the files of a scene: pictures, COLMAP models and points."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from lift.io.files import IsAllowed, is_file
from lift.io.parsing import PARSE_ERRORS, shorten
from lift.io.points import read_points
from lift.io.views import check_name, to_square
from lift.types import PointCloud

PHOTO_SUFFIXES = (".png", ".jpg", ".jpeg")
"""Suffixes of pictures that a dataset may have instead of the one that its cameras name."""


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
        if is_file(folder / name):
            return folder / name
    for folder in folders:
        for suffix in PHOTO_SUFFIXES:
            for path in (
                (folder / name).with_suffix(suffix),
                (folder / name).with_suffix(suffix.upper()),
            ):
                if is_file(path):
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


def read_scene_points(
    file: Path, content: Mapping, models: Sequence[str], is_allowed: IsAllowed
) -> PointCloud | None:
    """Read the points that belong to a transforms.json of nerfstudio.

    A PLY file that it names is in the world of its cameras. COLMAP's points are moved there by its
    `applied_transform` [3 4].

    Args:
        file: The transforms.json.
        content: Its parsed content.
        models: Subfolders that may hold a COLMAP model.
        is_allowed: Whether the PLY file may be read.

    Returns:
        The points, or None.

    Raises:
        ValueError: A file or `applied_transform` is invalid.
    """
    if ply_name := content.get("ply_file_path"):
        if not isinstance(ply_name, str):
            raise ValueError(f"{file}: ply_file_path is {shorten(ply_name)}; expected text")
        try:
            check_name(ply_name, "ply_file_path")
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from None
        ply = file.parent / ply_name
        if ply.is_file() and not is_allowed(ply):
            raise ValueError(
                f"{file}: ply_file_path is {ply_name[:200]!r}, which lies outside of the dataset's "
                "folder; set dataset.allow_outside=true to read it"
            )
        if ply.suffix.lower() == ".ply" and (points := read_points(ply)) is not None:
            return points
    points = next(
        (cloud for model in models if (cloud := read_points(file.parent / model)) is not None), None
    )
    if points is None:
        return None
    stated = content.get("applied_transform")
    try:
        applied = np.array(np.eye(4)[:3] if stated is None else stated, dtype=np.float64)
    except PARSE_ERRORS:
        applied = np.zeros(0)
    if applied.shape not in ((3, 4), (4, 4)) or not np.isfinite(applied).all():
        raise ValueError(
            f"{file}: applied_transform is of shape {applied.shape}; expected 3 rows of 4 finite "
            "numbers"
        )
    try:
        applied = to_square(applied[None], "applied_transform")[0]
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    rotation = torch.from_numpy(applied[:3, :3])
    translation = torch.from_numpy(applied[:3, 3])
    return replace(points, points=(points.points.double() @ rotation.mT + translation).float())
