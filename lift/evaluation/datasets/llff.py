"""Forward-facing photographs in the files of LLFF."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lift.evaluation.datasets import Capture, datasets
from lift.evaluation.datasets.photographs import PICTURES, Photographs, folder_of_pictures, model_of
from lift.io.cameras import View, read_points, read_views

POSES = "poses_bounds.npy"


@datasets.register("llff")
class Llff(Photographs):
    """Forward-facing photographs of LLFF, and whatever is in its layout.

    SCENE/poses_bounds.npy [view 17]: 3 x 5 numbers (camera to world, axes down, right, back; then height, width and focal length at full size), then
    the nearest and farthest depth; rows in the order of the pictures' names. Pictures in images_4, images_8, images_2 or images. sparse/0 (COLMAP), in
    the same world, may be there: points are taken from it, and the lens distortion, of which the poses do not tell. If some pictures have been dropped,
    names tell their rows: those that sparse/0 has, or image000, image001 and so on.

    Mildenhall et al., "Local light field fusion", SIGGRAPH 2019; the eight scenes are nerf_llff_data of https://www.matthewtancik.com/nerf.

    factor: k to take the pictures of images_k, 1 those of images; None: the first that is there of images_4 (about 1000 pixels wide in the release),
    images_8, images_2, images.
    """

    licence = "see its page"
    source = "https://www.matthewtancik.com/nerf"
    expected = POSES

    def __init__(self, factor: int | None = None, **shared) -> None:
        super().__init__(**shared)
        self.factor = factor

    def holds(self, folder: Path) -> bool:
        return (folder / POSES).is_file()

    def capture(self, scene: str) -> Capture:
        folder = self.place(scene)
        views = _read(folder / POSES)
        pictures = folder_of_pictures(folder, self.factor, (4, 8, 2, 1))
        files = sorted(file for file in pictures.iterdir() if file.suffix.lower() in PICTURES)
        model = model_of(folder, ("sparse/0",))
        known = sorted(read_views(model), key=lambda view: view.name) if model else []
        rows = _rows(files, views, known, pictures)
        if len(known) == len(views) or len({(view.lens, view.model) for view in known}) == 1:
            lenses = known if len(known) == len(views) else known[:1] * len(views)
            views = [
                replace(view, lens=lens.lens, model=lens.model)
                for view, lens in zip(views, lenses, strict=True)
            ]
        chosen = [
            replace(views[row], name=file.name) for row, file in zip(rows, files, strict=True)
        ]
        return self.captured(scene, folder, chosen, files, read_points(folder / "sparse" / "0"))


def _read(file: Path) -> list[View]:
    try:
        table = np.load(file, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{file} is no array: {error}") from None
    if (
        not isinstance(table, np.ndarray)
        or table.ndim != 2
        or table.shape[1] != 17
        or not len(table)
    ):
        raise ValueError(
            f"{file} is of shape {getattr(table, 'shape', 'none')}; expected [view 17]"
        )
    if not np.isfinite(table).all() or (table.reshape(-1)[4] < 1):
        raise ValueError(f"{file} has numbers that are not finite, or pictures without a size")
    views = []
    for row in table[:, :15].reshape(-1, 3, 5):
        down, right, back, center, (height, width, focal) = row.T
        turn = np.stack([right, down, -back])
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = turn, -turn @ center
        views.append(
            View(matrix, (focal, focal), (width / 2, height / 2), (round(width), round(height)))
        )
    return views


def _rows(
    files: Sequence[Path], views: Sequence[View], known: Sequence[View], pictures: Path
) -> list[int]:
    """Of each picture, the row of its pose. Raises ValueError if nothing tells."""
    if len(files) == len(views):
        return list(range(len(views)))
    rows = (
        {Path(view.name).stem: row for row, view in enumerate(known)}
        if len(known) == len(views)
        else {}
    )
    if files and all(file.stem in rows for file in files):
        return [rows[file.stem] for file in files]
    numbers = [
        int(match[1]) if (match := re.fullmatch(r"image(\d+)", file.stem)) else len(views)
        for file in files
    ]
    if files and len(set(numbers)) == len(numbers) and max(numbers) < len(views):
        return numbers
    raise ValueError(
        f"{pictures} has {len(files)} pictures, {POSES} {len(views)} rows, and names do not tell which: expected as many, or names as in sparse/0, "
        f"or image000 to image{len(views) - 1:03d}"
    )
