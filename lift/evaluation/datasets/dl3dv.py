"""Videos of places in the files of DL3DV."""

import json
from pathlib import Path

from lift.evaluation.datasets import Capture, datasets
from lift.evaluation.datasets.photographs import (
    Photographs,
    folder_of_pictures,
    picture,
    points_beside,
)
from lift.io.cameras import read_views

CAMERAS = "transforms.json"


@datasets.register("dl3dv")
class Dl3dv(Photographs):
    """Frames of videos of real places, indoors and outdoors, of DL3DV-10K and its benchmark.

    SCENE/transforms.json (nerfstudio's; OPENCV lens), or SCENE/nerfstudio/transforms.json as the benchmark has it; beside it the pictures that it calls
    images/NAME, in images_4, images_8, images_2 or images. Points are those of the PLY file that it names, or of colmap/sparse/0, if there.

    Ling et al., "DL3DV-10K", CVPR 2024; https://dl3dv-10k.github.io/DL3DV-10K, on request, for research.

    factor: k to take the pictures of images_k, 1 those of images; None: the first that is there of images_4 (960 pixels wide in the release), images_8,
    images_2, images.
    """

    licence = "DL3DV-10K terms of use, CC BY-NC 4.0"
    source = "https://dl3dv-10k.github.io/DL3DV-10K"
    expected = f"{CAMERAS} or nerfstudio/{CAMERAS}"

    def __init__(self, factor: int | None = None, **shared) -> None:
        super().__init__(**shared)
        self.factor = factor

    def holds(self, folder: Path) -> bool:
        return (folder / CAMERAS).is_file() or (folder / "nerfstudio" / CAMERAS).is_file()

    def capture(self, scene: str) -> Capture:
        folder = self.place(scene)
        file = folder / CAMERAS if (folder / CAMERAS).is_file() else folder / "nerfstudio" / CAMERAS
        views = read_views(file)
        pictures = folder_of_pictures(file.parent, self.factor, (4, 8, 2, 1))
        files = [
            picture(view.name.removeprefix("./").removeprefix("images/"), pictures)
            for view in views
        ]
        return self.captured(
            scene,
            folder,
            views,
            files,
            points_beside(file, json.loads(file.read_text(encoding="utf-8")), ("colmap/sparse/0",)),
        )
