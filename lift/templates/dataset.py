"""The dataset `new_dataset`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lift.evaluation.datasets import CalibratedCapture, datasets
from lift.evaluation.datasets.photographs import Photographs
from lift.io.files import read_text
from lift.io.image import save_image
from lift.io.json_files import parse_json
from lift.io.views import View

CAMERAS = "cameras.json"
"""File of a scene: for each picture `file`, `size`, `focal` and `world_to_camera`."""


@datasets.register("new_dataset")
class NewDataset(Photographs):
    """Photographs with cameras in a file cameras.json for each scene.

    Each entry has `file`, the name of a picture, `size`, its width and height in pixels, `focal`,
    the focal length in pixels, and `world_to_camera`, four rows of four numbers, with OpenCV axes.

    Args:
        path: Folder of the dataset or of a single scene.
        scenes: Names of the scenes to use, which are their folders' names. None uses all.
    """

    licence = "see its page"
    source = "https://example.org"
    expected = CAMERAS

    @classmethod
    def example_settings(cls, folder: Path) -> dict[str, Any]:
        """Write a scene of three grey pictures, and return the settings that read it.

        Args:
            folder: An empty folder.
        """
        entries = []
        for index in range(3):
            name = f"{index}.png"
            save_image(folder / name, torch.full((48, 64, 3), 80 * index, dtype=torch.uint8))
            matrix = np.eye(4)
            matrix[0, 3] = 0.1 * index
            entries.append(
                {"file": name, "size": [64, 48], "focal": 60.0, "world_to_camera": matrix.tolist()}
            )
        (folder / CAMERAS).write_text(json.dumps(entries), encoding="utf-8")
        return {"path": str(folder)}

    def holds(self, folder: Path) -> bool:
        """Whether a folder is a scene.

        Args:
            folder: The folder.
        """
        return (folder / CAMERAS).is_file()

    def read_scene(self, scene: str) -> CalibratedCapture:
        """Read a scene. See `Dataset`.

        Args:
            scene: Name of the scene.
        """
        folder = self.scene_folder(scene)
        try:
            entries = parse_json(read_text(folder / CAMERAS))
            views = [_read_view(entry) for entry in entries]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{folder / CAMERAS} is invalid: {type(error).__name__}: {error}; it needs a list "
                "of file, size, focal and world_to_camera"
            ) from None
        pictures = [folder / view.name for view in views]
        # `build_capture` reads the pictures, and removes the distortion of `View.lens`.
        return self.build_capture(scene, folder, views, pictures, points=None)


def _read_view(entry: dict[str, Any]) -> View:
    """Read one camera."""
    width, height = entry["size"]
    focal = float(entry["focal"])
    matrix = np.array(entry["world_to_camera"], dtype=np.float64)
    if matrix.shape != (4, 4):
        raise ValueError(f"world_to_camera is of shape {matrix.shape}; expected 4 rows of 4")
    centre = (width / 2, height / 2)
    return View(matrix, (focal, focal), centre, (width, height), entry["file"])
