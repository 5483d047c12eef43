"""Your own photographs with cameras."""

import json
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from lift.evaluation.datasets import Capture, datasets
from lift.evaluation.datasets.photographs import Photographs, model_of, picture, points_beside
from lift.io.cameras import View, read_points, read_views
from lift.types import PointCloud

ARRAYS, CAMERAS, MODELS = (
    "cameras.npz",
    "transforms.json",
    ("sparse/0", "sparse", "colmap/sparse/0", "colmap", ""),
)


@datasets.register("folder")
class Folder(Photographs):
    """A folder of photographs with cameras, or a folder of such folders.

    SCENE/images/NAME and, the first that is there of: cameras.npz (names [view], K [view 3 3], w2c [view 4 4], width, height, and k1_simple_radial, the
    lens's; points in sparse_points.npz: xyz [point 3], rgb [point 3] to 255); transforms.json (nerfstudio's; file_path is relative to it; points of the
    PLY file that it names, or of a COLMAP model beside it); a COLMAP model in sparse/0, sparse, colmap/sparse/0, colmap or the folder itself.

    If cameras.npz has K_color_nominal [3 3], K is another camera's (7-Scenes': that of depth), and it is taken instead. A folder depth is not looked at:
    it need not be seen from where the pictures are.
    """

    source = "yours"
    expected = (
        f"{ARRAYS}, {CAMERAS} or a COLMAP model (in {', '.join(MODELS[:-1])} or the folder itself)"
    )

    def holds(self, folder: Path) -> bool:
        return (
            (folder / ARRAYS).is_file()
            or (folder / CAMERAS).is_file()
            or model_of(folder, MODELS) is not None
        )

    def capture(self, scene: str) -> Capture:
        folder = self.place(scene)
        if (folder / ARRAYS).is_file():
            views, notes = _arrays(folder / ARRAYS)
            files = [picture(view.name, folder / "images", folder) for view in views]
            return self.captured(
                scene, folder, views, files, _sparse(folder / "sparse_points.npz"), notes
            )
        if (folder / CAMERAS).is_file():
            views = read_views(folder / CAMERAS)
            files = [picture(view.name, folder, folder / "images") for view in views]
            content = json.loads((folder / CAMERAS).read_text(encoding="utf-8"))
            points = points_beside(folder / CAMERAS, content, MODELS)
            return self.captured(scene, folder, views, files, points, {"cameras": CAMERAS})
        model = model_of(folder, MODELS)
        assert model is not None, "it holds one"
        views = read_views(model)
        files = [picture(view.name, folder / "images", folder) for view in views]
        return self.captured(scene, folder, views, files, read_points(model), {"cameras": "COLMAP"})


def _arrays(file: Path) -> tuple[Sequence[View], dict[str, str]]:
    views, (nominal, width, names) = (
        read_views(file),
        _loaded(file, "K_color_nominal", "width", "names"),
    )
    if width is None or names is None:
        raise ValueError(
            f"{file} has no {'width' if width is None else 'names'}; expected names, K, w2c, width and height"
        )
    if nominal is None:
        return views, {"cameras": ARRAYS}
    if nominal.shape != (3, 3):
        raise ValueError(f"{file}: K_color_nominal is of shape {nominal.shape}; expected [3 3]")
    focal, center = (
        (float(nominal[0, 0]), float(nominal[1, 1])),
        (float(nominal[0, 2]), float(nominal[1, 2])),
    )
    return [replace(view, focal=focal, center=center) for view in views], {
        "cameras": f"{ARRAYS}: K_color_nominal; the poses are those of another camera"
    }


def _sparse(file: Path) -> PointCloud | None:
    if not file.is_file():
        return None
    xyz, rgb = _loaded(file, "xyz", "rgb")
    if (
        xyz is None
        or rgb is None
        or xyz.ndim != 2
        or xyz.shape[1] != 3
        or rgb.shape != xyz.shape
        or not np.isfinite(xyz).all()
    ):
        raise ValueError(f"{file} has not finite xyz [point 3] and rgb [point 3]")
    return PointCloud(torch.from_numpy(xyz).float(), torch.from_numpy(rgb).float() / 255)


def _loaded(file: Path, *keys: str) -> list[np.ndarray | None]:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return [arrays.get(key, None) for key in keys]
    except (ValueError, OSError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{file} is no npz file: {error}") from None
