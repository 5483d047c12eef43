"""Read forward-facing photographs in the files of LLFF."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Interval

from lift.evaluation.datasets import CalibratedCapture, datasets
from lift.evaluation.datasets.photographs import Photographs
from lift.evaluation.datasets.scene_files import PHOTO_SUFFIXES, find_model, pictures_folder
from lift.io.cameras import read_views
from lift.io.files import read_file
from lift.io.numpy_files import load_npy
from lift.io.parsing import MAX_NUMBER, MAX_SIDE, PARSE_ERRORS, describe_error, shorten
from lift.io.points import read_points
from lift.io.views import View

POSES = "poses_bounds.npy"


@datasets.register("llff")
class Llff(Photographs):
    """Forward-facing photographs of LLFF, and other scenes in its layout.

    A scene has SCENE/poses_bounds.npy [view 17]: 3 x 5 numbers (camera to world with axes down,
    right, back; then height, width and focal length at full size), then the nearest and farthest
    depth. Rows are in the order of the pictures' names. Pictures are in images_4, images_8,
    images_2 or images. A COLMAP model in sparse/0, in the same world, is optional. It provides
    points, and lens distortion, which the poses lack. If pictures are missing, names determine
    their rows: those of sparse/0, or image000, image001 and so on.

    Args:
        factor: k for the pictures in images_k, 1 for images. None uses the first folder that exists
            of images_4 (about 1000 pixels wide in the release), images_8, images_2 and images.
        **shared: Settings of all datasets of photographs, `path` and `scenes`.

    Reference:
        Mildenhall et al., "Local light field fusion", SIGGRAPH 2019. The eight scenes are
        nerf_llff_data of https://www.matthewtancik.com/nerf.
    """

    licence = "see its page"
    source = "https://www.matthewtancik.com/nerf"
    expected = POSES

    def __init__(
        self, factor: Annotated[int, Interval(ge=1, le=64)] | None = None, **shared
    ) -> None:
        super().__init__(**shared)
        self.factor = factor

    def holds(self, folder: Path) -> bool:
        """Whether a folder is a scene.

        Args:
            folder: The folder.

        Returns:
            True if it has poses_bounds.npy.
        """
        return (folder / POSES).is_file()

    def read_scene(self, scene: str) -> CalibratedCapture:
        """Read a scene.

        Args:
            scene: Name of the scene.

        Returns:
            The scene.
        """
        folder = self.scene_folder(scene)
        views = _read_poses(folder / POSES)
        pictures = pictures_folder(folder, self.factor, (4, 8, 2, 1))
        files = sorted(file for file in pictures.iterdir() if file.suffix.lower() in PHOTO_SUFFIXES)
        model = find_model(folder, ("sparse/0",))
        model_views = sorted(read_views(model), key=lambda view: view.name) if model else []
        rows = _find_rows(files, views, model_views, pictures)
        if (
            len(model_views) == len(views)
            or len({(view.lens, view.model) for view in model_views}) == 1
        ):
            lenses = model_views if len(model_views) == len(views) else model_views[:1] * len(views)
            views = [
                replace(view, lens=lens.lens, model=lens.model)
                for view, lens in zip(views, lenses, strict=True)
            ]
        named_views = [
            replace(views[row], name=file.name) for row, file in zip(rows, files, strict=True)
        ]
        return self.build_capture(
            scene, folder, named_views, files, read_points(folder / "sparse" / "0")
        )


def _read_poses(file: Path) -> list[View]:
    """Read the views of poses_bounds.npy, without names and lenses."""
    data = read_file(file)
    try:
        table = load_npy(data)
    except PARSE_ERRORS as error:
        raise ValueError(f"{file} is no array: {describe_error(error)}") from None
    if table.ndim != 2 or table.shape[1] != 17 or not len(table) or table.dtype.kind not in "iuf":
        raise ValueError(f"{file} is of shape {shorten(table.shape)}; expected [view 17]")
    table = table.astype(np.float64)
    sizes = table[:, :15].reshape(-1, 3, 5)[:, :2, 4]
    if not (np.abs(table) <= MAX_NUMBER).all() or sizes.min() < 1 or sizes.max() > MAX_SIDE:
        raise ValueError(f"{file} has numbers that are not finite, or pictures without a size")
    views = []
    for row in table[:, :15].reshape(-1, 3, 5):
        down, right, back, center, (height, width, focal) = row.T
        rotation = np.stack([right, down, -back])
        matrix = np.eye(4)
        matrix[:3, :3] = rotation
        matrix[:3, 3] = -rotation @ center
        views.append(
            View(matrix, (focal, focal), (width / 2, height / 2), (round(width), round(height)))
        )
    return views


def _find_rows(
    files: Sequence[Path], views: Sequence[View], model_views: Sequence[View], pictures: Path
) -> list[int]:
    """Find the row of each picture's pose. Raise ValueError if names do not determine it."""
    if len(files) == len(views):
        return list(range(len(views)))
    row_of = (
        {Path(view.name).stem: row for row, view in enumerate(model_views)}
        if len(model_views) == len(views)
        else {}
    )
    if files and all(file.stem in row_of for file in files):
        return [row_of[file.stem] for file in files]
    numbers = [
        int(match[1]) if (match := re.fullmatch(r"image(\d+)", file.stem)) else len(views)
        for file in files
    ]
    if files and len(set(numbers)) == len(numbers) and max(numbers) < len(views):
        return numbers
    raise ValueError(
        f"{pictures} has {len(files)} pictures, {POSES} {len(views)} rows, and names do not tell "
        "which: expected as many, or names as in sparse/0, or image000 to "
        f"image{len(views) - 1:03d}"
    )
