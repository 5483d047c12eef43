"""Videos of houses in the files of RealEstate10K."""

from pathlib import Path

from lift.evaluation.datasets import Capture, datasets
from lift.evaluation.datasets.photographs import Photographs, picture
from lift.io.cameras import natural, read_views
from lift.io.image import picture_size

LISTS = ("", "cameras", "cameras/test", "cameras/train", "test", "train")


@datasets.register("realestate10k")
class RealEstate10K(Photographs):
    """Frames of videos of houses, with cameras of structure from motion.

    NAME.txt in the folder itself, in cameras, test or train (or cameras/test, cameras/train): the video's address, then a line a frame. Frames, which
    everyone cuts out of the videos themselves, in NAME/TIMESTAMP.png (or .jpg) beside NAME.txt, in the folder itself, or in frames (or frames/test,
    frames/train). Views are those whose frame is there; scenes those with a folder of frames. `path`
    may be a single scene's NAME.txt.

    Zhou et al., "Stereo magnification", SIGGRAPH 2018; https://google.github.io/realestate10k.
    """

    licence = "CC BY 4.0 (cameras); the videos are YouTube's"
    source = "https://google.github.io/realestate10k"
    expected = "NAME.txt (in it, cameras, test or train) with frames NAME/TIMESTAMP.png or .jpg (beside it, in the folder itself or in frames)"

    def found(self) -> dict[str, Path]:
        texts = (
            [self.path]
            if self.path.is_file()
            else [text for place in LISTS for text in (self.path / place).glob("*.txt")]
        )
        return {
            text.stem: text
            for text in sorted(texts, key=lambda text: natural(text.stem))
            if self._frames(text)
        }

    def capture(self, scene: str) -> Capture:
        text = self.place(scene)
        folder = self._frames(text)
        assert folder is not None, "it was found with them"
        files = [picture(f"{view.name}.png", folder) for view in read_views(text)]
        there = [number for number, file in enumerate(files) if file.is_file()]
        if not there:
            raise FileNotFoundError(
                f"{folder} has none of the frames of {text}; expected TIMESTAMP.png or .jpg"
            )
        views = read_views(text, picture_size(files[there[0]]))  # whose intrinsics are shares of it
        return self.captured(
            scene,
            folder,
            [views[number] for number in there],
            [files[number] for number in there],
            None,
        )

    def _frames(self, text: Path) -> Path | None:
        """The folder of a scene's frames."""
        root = text.parent if self.path.is_file() else self.path
        places = (text.parent, root, root / "frames", root / "frames" / text.parent.name)
        return next((place / text.stem for place in places if (place / text.stem).is_dir()), None)
