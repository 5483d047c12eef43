"""Read videos of houses in the files of RealEstate10K."""

from pathlib import Path

from lift.evaluation.datasets import CalibratedCapture, datasets
from lift.evaluation.datasets.photographs import Photographs
from lift.evaluation.datasets.scene_files import find_picture
from lift.io.cameras import read_views
from lift.io.image import picture_size
from lift.io.views import natural_key

TEXT_FOLDERS = ("", "cameras", "cameras/test", "cameras/train", "test", "train")
"""Folders that may hold the text files."""


@datasets.register("realestate10k")
class RealEstate10K(Photographs):
    """Frames of videos of houses, with cameras of structure from motion.

    NAME.txt has the video's address, then a line for each frame. It is in the folder itself, in
    cameras, test or train, or in cameras/test or cameras/train. Users extract the frames from the
    videos themselves. Frames are NAME/TIMESTAMP.png (or .jpg) beside NAME.txt, in the folder
    itself, in frames, or in frames/test or frames/train. Views are the frames that exist. Scenes
    are those with a folder of frames.

    Args:
        path: Folder of the dataset, or NAME.txt of a single scene.
        scenes: Names of the scenes to use. None uses all.
        allow_outside: Whether files outside of `path` may be opened, to which cameras or symbolic
            links may point.

    Reference:
        Zhou et al., "Stereo magnification", SIGGRAPH 2018;
        https://google.github.io/realestate10k.
    """

    licence = "CC BY 4.0 (cameras); the videos are YouTube's"
    source = "https://google.github.io/realestate10k"
    expected = (
        "NAME.txt (in it, cameras, test or train) with frames NAME/TIMESTAMP.png or .jpg (beside "
        "it, in the folder itself or in frames)"
    )

    def holds(self, folder: Path) -> bool:
        """Whether a folder is a scene. Here scenes are text files, so none is.

        Args:
            folder: The folder.

        Returns:
            False.
        """
        return False

    def find_scenes(self) -> dict[str, Path]:
        """Find all scenes of the dataset.

        Returns:
            Text file of each scene by name.
        """
        texts = (
            [self.path]
            if self.path.is_file()
            else [
                text for subfolder in TEXT_FOLDERS for text in (self.path / subfolder).glob("*.txt")
            ]
        )
        return {
            text.stem: text
            for text in sorted(texts, key=lambda text: natural_key(text.stem))
            if self._frames_folder(text)
        }

    def read_scene(self, scene: str) -> CalibratedCapture:
        """Read a scene.

        Args:
            scene: Name of the scene.

        Returns:
            The scene.

        Raises:
            FileNotFoundError: No frame of the scene exists.
        """
        text = self.scene_folder(scene)
        folder = self._frames_folder(text)
        assert folder is not None, "a scene has a folder of frames"
        files = [find_picture(f"{view.name}.png", folder) for view in read_views(text)]
        existing = [number for number, file in enumerate(files) if file.is_file()]
        if not existing:
            raise FileNotFoundError(
                f"{folder} has none of the frames of {text}; expected TIMESTAMP.png or .jpg"
            )
        # Intrinsics are relative to the size of the frames.
        views = read_views(text, picture_size(files[existing[0]], upright=False))
        return self.build_capture(
            scene,
            folder,
            [views[number] for number in existing],
            [files[number] for number in existing],
            None,
        )

    def _frames_folder(self, text: Path) -> Path | None:
        """Find the folder of a scene's frames."""
        root = text.parent if self.path.is_file() else self.path
        folders = (text.parent, root, root / "frames", root / "frames" / text.parent.name)
        return next(
            (folder / text.stem for folder in folders if (folder / text.stem).is_dir()), None
        )
