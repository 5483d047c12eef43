"""Scenes of Tanks and Temples with cameras of COLMAP."""

from pathlib import Path

from lift.evaluation.datasets import Capture, datasets
from lift.evaluation.datasets.photographs import Photographs, model_of, picture
from lift.io.cameras import read_points, read_views

MODELS = ("sparse/0", "sparse")


@datasets.register("tanks_and_temples")
class TanksAndTemples(Photographs):
    """Frames of videos of Tanks and Temples with cameras of COLMAP, as the authors of 3D Gaussian splatting give them out (`tandt`: train, truck).

    SCENE/sparse/0 or SCENE/sparse (cameras, images, points3D, .bin or .txt), SCENE/images/NAME; the pictures may be smaller than the cameras say.

    Knapitsch et al., "Tanks and Temples", SIGGRAPH 2017, https://www.tanksandtemples.org; with cameras:
    https://repo-sam.inria.fr/fungraph/3d-gaussian-splatting.
    """

    licence = "CC BY-NC-SA 3.0"
    source = "https://www.tanksandtemples.org"
    expected = "sparse/0 or sparse with cameras and images, .bin or .txt, of COLMAP"

    def holds(self, folder: Path) -> bool:
        return model_of(folder, MODELS) is not None

    def capture(self, scene: str) -> Capture:
        folder = self.place(scene)
        model = model_of(folder, MODELS)
        assert model is not None, "it holds one"
        views = read_views(model)
        if not (folder / "images").is_dir():
            raise FileNotFoundError(
                f"there is no folder images in {folder}, where the pictures of {model} are expected"
            )
        return self.captured(
            scene,
            folder,
            views,
            [picture(view.name, folder / "images") for view in views],
            read_points(model),
        )
