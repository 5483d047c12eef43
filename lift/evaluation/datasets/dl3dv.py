"""Read videos of places in the files of DL3DV."""

from pathlib import Path
from typing import Annotated

from annotated_types import Interval

from lift.evaluation.datasets import CalibratedCapture, datasets
from lift.evaluation.datasets.photographs import Photographs
from lift.evaluation.datasets.scene_files import find_picture, pictures_folder, read_scene_points
from lift.io.cameras import read_views
from lift.io.json_files import read_json

CAMERAS = "transforms.json"


@datasets.register("dl3dv")
class Dl3dv(Photographs):
    """Frames of videos of real places, from DL3DV-10K and its benchmark.

    A scene has SCENE/transforms.json of nerfstudio with OPENCV lens, or
    SCENE/nerfstudio/transforms.json as in the benchmark. The pictures, which it calls images/NAME,
    are beside it in images_4, images_8, images_2 or images. Points are read from the PLY file that
    it names, or from colmap/sparse/0. The data is available on request, for research.

    Args:
        factor: k for the pictures in images_k, 1 for images. None uses the first folder that exists
            of images_4 (960 pixels wide in the release), images_8, images_2 and images.
        **shared: Settings of all datasets of photographs, `path` and `scenes`.

    Reference:
        Ling et al., "DL3DV-10K", CVPR 2024; https://dl3dv-10k.github.io/DL3DV-10K.
    """

    licence = "DL3DV-10K terms of use, CC BY-NC 4.0"
    source = "https://dl3dv-10k.github.io/DL3DV-10K"
    expected = f"{CAMERAS} or nerfstudio/{CAMERAS}"

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
            True if it has a transforms.json.
        """
        return (folder / CAMERAS).is_file() or (folder / "nerfstudio" / CAMERAS).is_file()

    def read_scene(self, scene: str) -> CalibratedCapture:
        """Read a scene.

        Args:
            scene: Name of the scene.

        Returns:
            The scene.
        """
        folder = self.scene_folder(scene)
        file = folder / CAMERAS if (folder / CAMERAS).is_file() else folder / "nerfstudio" / CAMERAS
        views = read_views(file, is_allowed=self.is_allowed)
        pictures = pictures_folder(file.parent, self.factor, (4, 8, 2, 1))
        files = [
            find_picture(view.name.removeprefix("./").removeprefix("images/"), pictures)
            for view in views
        ]
        return self.build_capture(
            scene,
            folder,
            views,
            files,
            read_scene_points(file, read_json(file), ("colmap/sparse/0",), self.is_allowed),
        )
