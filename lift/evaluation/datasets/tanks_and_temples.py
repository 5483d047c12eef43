"""Read scenes of Tanks and Temples with cameras of COLMAP."""

from pathlib import Path

from lift.evaluation.datasets import CalibratedCapture, datasets
from lift.evaluation.datasets.photographs import Photographs
from lift.evaluation.datasets.scene_files import find_model, find_picture
from lift.io.cameras import read_views
from lift.io.points import read_points

MODELS = ("sparse/0", "sparse")


@datasets.register("tanks_and_temples")
class TanksAndTemples(Photographs):
    """Frames of videos of Tanks and Temples with cameras of COLMAP.

    The authors of 3D Gaussian splatting publish them as `tandt` (train, truck). A scene has
    SCENE/sparse/0 or SCENE/sparse (cameras, images, points3D, .bin or .txt), and pictures
    SCENE/images/NAME, which may be smaller than the cameras state.

    Args:
        path: Folder of the dataset or of a single scene.
        scenes: Names of the scenes to use, which are their folders' names. None uses all.
        allow_outside: Whether files outside of `path` may be opened, to which cameras or symbolic
            links may point.

    Reference:
        Knapitsch et al., "Tanks and Temples", SIGGRAPH 2017, https://www.tanksandtemples.org. With
        cameras: https://repo-sam.inria.fr/fungraph/3d-gaussian-splatting.
    """

    licence = "CC BY-NC-SA 3.0"
    source = "https://www.tanksandtemples.org"
    expected = "sparse/0 or sparse with cameras and images, .bin or .txt, of COLMAP"

    def holds(self, folder: Path) -> bool:
        """Whether a folder is a scene.

        Args:
            folder: The folder.

        Returns:
            True if it has a COLMAP model.
        """
        return find_model(folder, MODELS) is not None

    def read_scene(self, scene: str) -> CalibratedCapture:
        """Read a scene.

        Args:
            scene: Name of the scene.

        Returns:
            The scene.

        Raises:
            FileNotFoundError: The folder of pictures does not exist.
        """
        folder = self.scene_folder(scene)
        model = find_model(folder, MODELS)
        assert model is not None, "it holds one"
        views = read_views(model)
        if not (folder / "images").is_dir():
            raise FileNotFoundError(
                f"there is no folder images in {folder}, where the pictures of {model} are expected"
            )
        return self.build_capture(
            scene,
            folder,
            views,
            [find_picture(view.name, folder / "images") for view in views],
            read_points(model),
        )
