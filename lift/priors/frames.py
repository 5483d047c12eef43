"""Frames that something else made."""

from pathlib import Path

from jaxtyping import UInt8
from torch import Tensor

from lift.io.image import resized
from lift.io.video import read_frames
from lift.priors import VideoPrior, priors
from lift.types import Cameras, Clip, Frames

_SAME_SHAPE = 0.02
"""Aspect ratios that differ by less than this share are taken to be one."""


@priors.register("frames")
class FromFile(VideoPrior):
    """Frames from a video file or a folder of pictures, made elsewhere, by any generator or camera.

    Clips take them in turn. `planner=path` gives the path they were made with, as a hint. With any other planner nothing is planned:
    all frames are one clip, and the pose stage finds their cameras. They are scaled to the size of the run's picture.

    path: the file or folder. includes_input: its first frame is the input picture, and is left out. first, stride: take every
    stride-th frame from the one with this index on. length: new frames a clip (default: all frames are one clip). crop: cut the
    middle out of frames of another shape than the input's; else they are refused.
    """

    licence = "that of the frames"
    follows = "nothing: the frames are there already"

    def __init__(
        self,
        path: Path,
        includes_input: bool = True,
        first: int = 0,
        stride: int = 1,
        length: int | None = None,
        crop: bool = False,
    ) -> None:
        for key, value, least in (
            ("first", first, 0),
            ("stride", stride, 1),
            ("length", 1 if length is None else length, 1),
        ):
            if value < least:
                raise ValueError(f"prior.{key} is {value}; choose {least} or more")
        images = read_frames(path).images[first::stride][1 if includes_input else 0 :]
        if len(images) == 0:
            raise ValueError(
                f"prior.path is {str(path)!r}, which has no frame left after first={first} and the input's own"
            )
        if length is not None and length > len(images):
            raise ValueError(
                f"prior.length is {length}, but {str(path)!r} has {len(images)} new frames; choose at most {len(images)}"
            )
        self.path = path
        self.images = images
        self.crop = crop
        self.clip_length = len(images) if length is None else length

    @property
    def new_frames(self) -> int:
        """Number of frames there are, without the input."""
        return len(self.images)

    def __call__(self, frames: Frames, cameras: Cameras, clip: Clip, seed: int) -> Frames:
        """As `VideoPrior`, without depth. Raises ValueError if the plan asks for more frames than there are, or for another shape."""
        taken = len(frames) - 1
        stop = taken + len(clip.cameras)
        if stop > len(self.images):
            raise ValueError(
                f"the plan asks for {stop} new frames with clip {clip.name!r}, but {str(self.path)!r} has {len(self.images)}; "
                "choose a planner with fewer clips, such as single or path"
            )
        height, width = frames.images.shape[1:3]
        return Frames(self._fitted(self.images[taken:stop], width, height).to(frames.images.device))

    def _fitted(
        self, images: UInt8[Tensor, "view y x 3"], width: int, height: int
    ) -> UInt8[Tensor, "view height width 3"]:
        rows, columns = images.shape[1:3]
        wide = (columns / rows) / (width / height)
        if abs(wide - 1) > _SAME_SHAPE:
            if not self.crop:
                raise ValueError(
                    f"prior.path has frames of {columns}x{rows} pixels, but the input is {width}x{height}: another shape; "
                    "choose prior.crop=true to cut out their middle, or an input picture of their shape"
                )
            keep_rows, keep_columns = (
                (rows, round(columns / wide)) if wide > 1 else (round(rows * wide), columns)
            )
            top, left = (rows - keep_rows) // 2, (columns - keep_columns) // 2
            images = images[:, top : top + keep_rows, left : left + keep_columns]
        return resized(images, width, height)
