"""Read photographs of one's own with cameras."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lift.evaluation.datasets import CalibratedCapture, datasets
from lift.evaluation.datasets.photographs import Photographs
from lift.evaluation.datasets.scene_files import find_model, find_picture, read_scene_points
from lift.geometry import pinhole
from lift.io.cameras import read_views
from lift.io.files import read_file
from lift.io.image import save_image
from lift.io.json_files import read_json
from lift.io.nerfstudio import write_transforms
from lift.io.numpy_files import load_npz
from lift.io.parsing import MAX_NUMBER, PARSE_ERRORS, describe_error
from lift.io.points import read_points
from lift.io.views import View
from lift.types import PointCloud

ARRAYS = "cameras.npz"
CAMERAS = "transforms.json"
MODELS = ("sparse/0", "sparse", "colmap/sparse/0", "colmap", "")


@datasets.register("folder")
class Folder(Photographs):
    """A folder of photographs with cameras, or a folder of such folders.

    A scene has pictures SCENE/images/NAME and cameras in the first of these that exists:

    - cameras.npz: names [view], K [view 3 3], w2c [view 4 4], width, height, and k1_simple_radial
      of the lens. Points are in sparse_points.npz: xyz [point 3], rgb [point 3] up to 255.
    - transforms.json of nerfstudio, with file_path relative to it. Points are in the PLY file that
      it names, or in a COLMAP model beside it.
    - a COLMAP model in sparse/0, sparse, colmap/sparse/0, colmap or the folder itself.

    If cameras.npz has K_color_nominal [3 3], it replaces K, which then belongs to another camera
    (7-Scenes: the depth camera). A folder depth is ignored, because depth may have been measured
    from other poses.

    Args:
        path: Folder of the dataset or of a single scene.
        scenes: Names of the scenes to use, which are their folders' names. None uses all.
        allow_outside: Whether files outside of `path` may be opened, to which cameras or symbolic
            links may point.
    """

    source = "yours"
    expected = (
        f"{ARRAYS}, {CAMERAS} or a COLMAP model (in {', '.join(MODELS[:-1])} or the folder itself)"
    )

    @classmethod
    def example_settings(cls, folder: Path) -> dict[str, Any]:
        """Write a scene of three pictures with cameras, and return the settings that read it.

        Args:
            folder: An empty folder.
        """
        names = [f"images/{index}.png" for index in range(3)]
        (folder / "images").mkdir()
        for index, name in enumerate(names):
            save_image(folder / name, torch.full((48, 64, 3), 40 * index, dtype=torch.uint8))
        camera = pinhole(64, 48, 60.0)
        cameras = camera.map(lambda value: value.expand(3, *value.shape[1:]).clone())
        cameras.world_to_camera[:, 0, 3] = torch.arange(3) / 20
        write_transforms(folder / CAMERAS, cameras, names)
        return {"path": str(folder)}

    def holds(self, folder: Path) -> bool:
        """Whether a folder is a scene.

        Args:
            folder: The folder.

        Returns:
            True if it has cameras.
        """
        return (
            (folder / ARRAYS).is_file()
            or (folder / CAMERAS).is_file()
            or find_model(folder, MODELS) is not None
        )

    def read_scene(self, scene: str) -> CalibratedCapture:
        """Read a scene.

        Args:
            scene: Name of the scene.

        Returns:
            The scene.
        """
        folder = self.scene_folder(scene)
        if (folder / ARRAYS).is_file():
            views, notes = _read_arrays(folder / ARRAYS)
            files = [find_picture(view.name, folder / "images", folder) for view in views]
            return self.build_capture(
                scene,
                folder,
                views,
                files,
                _read_sparse_points(folder / "sparse_points.npz"),
                notes,
            )
        if (folder / CAMERAS).is_file():
            views = read_views(folder / CAMERAS, is_allowed=self.is_allowed)
            files = [find_picture(view.name, folder, folder / "images") for view in views]
            points = read_scene_points(
                folder / CAMERAS, read_json(folder / CAMERAS), MODELS, self.is_allowed
            )
            return self.build_capture(scene, folder, views, files, points, {"cameras": CAMERAS})
        model = find_model(folder, MODELS)
        assert model is not None, "it holds one"
        views = read_views(model)
        files = [find_picture(view.name, folder / "images", folder) for view in views]
        return self.build_capture(
            scene, folder, views, files, read_points(model), {"cameras": "COLMAP"}
        )


def _read_arrays(file: Path) -> tuple[Sequence[View], dict[str, str]]:
    """Read views from cameras.npz, with notes about their origin."""
    views = read_views(file)
    nominal, width, names = _load_arrays(file, "K_color_nominal", "width", "names")
    if width is None or names is None:
        raise ValueError(
            f"{file} has no {'width' if width is None else 'names'}; expected names, K, w2c, width "
            "and height"
        )
    if nominal is None:
        return views, {"cameras": ARRAYS}
    if nominal.shape != (3, 3) or nominal.dtype.kind not in "iuf":
        raise ValueError(f"{file}: K_color_nominal is of shape {nominal.shape}; expected [3 3]")
    focal = (float(nominal[0, 0]), float(nominal[1, 1]))
    center = (float(nominal[0, 2]), float(nominal[1, 2]))
    return [replace(view, focal=focal, center=center) for view in views], {
        "cameras": f"{ARRAYS}: K_color_nominal; the poses are those of another camera"
    }


def _read_sparse_points(file: Path) -> PointCloud | None:
    """Read points from sparse_points.npz, if it exists."""
    if not file.is_file():
        return None
    xyz, rgb = _load_arrays(file, "xyz", "rgb")
    if (
        xyz is None
        or rgb is None
        or xyz.ndim != 2
        or xyz.shape[1] != 3
        or rgb.shape != xyz.shape
        or xyz.dtype.kind not in "iuf"
        or rgb.dtype.kind not in "iuf"
        or not (np.abs(xyz) <= MAX_NUMBER).all()
        or not (np.abs(rgb) <= MAX_NUMBER).all()
    ):
        raise ValueError(f"{file} has not finite xyz [point 3] and rgb [point 3]")
    positions = torch.from_numpy(xyz.astype(np.float32))
    return PointCloud(positions, torch.from_numpy(rgb.astype(np.float32)) / 255)


def _load_arrays(file: Path, *keys: str) -> list[np.ndarray | None]:
    """Load arrays of an npz file. A missing array is None."""
    data = read_file(file)
    try:
        arrays = load_npz(data, keys)
    except PARSE_ERRORS as error:
        raise ValueError(f"{file} is no npz file: {describe_error(error)}") from None
    return [arrays.get(key) for key in keys]
