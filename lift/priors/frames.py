"""Frames that come from a file."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from lift.io.image import resize_images, save_image
from lift.io.video import read_frames
from lift.priors import VideoPrior, priors
from lift.registry.ranges import AtLeastOne, Count
from lift.types import Cameras, Clip, Frames

_ASPECT_TOLERANCE = 0.02
"""Aspect ratios that differ by less than this fraction count as equal."""


@priors.register("frames")
class FromFile(VideoPrior):
    """Frames from a video file or a folder of pictures, by any generator or camera.

    Clips take the frames in order. `planner=path` gives the path that they follow, as a hint. Any
    other planner is not used, and the run says so: all frames are one clip, and the pose stage
    estimates their cameras. The frames are resized to the size of the run's picture.

    Args:
        path: The video file or the folder.
        includes_input: Whether the first frame is the input picture. It is then left out.
        start: Index of the first frame that is used.
        stride: Use every `stride`-th frame.
        length: New frames a clip. Default: all frames are one clip.
        crop: Crop frames whose aspect ratio differs from the input's, around the centre. Otherwise
            such frames are an error.
    """

    licence = "that of the frames"
    control = "none: the frames exist already"
    has_recorded_frames = True

    def __init__(
        self,
        path: Path,
        includes_input: bool = True,
        start: Count = 0,
        stride: AtLeastOne = 1,
        length: AtLeastOne | None = None,
        crop: bool = False,
    ) -> None:
        images = read_frames(path).images[start::stride][1 if includes_input else 0 :]
        if len(images) == 0:
            raise ValueError(
                f"prior.path is {str(path)!r}, which has no frame left after start={start} "
                "and the input's own"
            )
        if length is not None and length > len(images):
            raise ValueError(
                f"prior.length is {length}, but {str(path)!r} has {len(images)} new frames; "
                f"choose at most {len(images)}"
            )
        self.path = path
        self.images = images
        self.crop = crop
        self.num_recorded = len(images)
        self.clip_length = len(images) if length is None else length

    @classmethod
    def example_settings(cls, folder: Path) -> dict[str, Any]:
        """Write five grey frames of 64 x 48 pixels, and return the settings that read them.

        Args:
            folder: An empty folder.
        """
        for index in range(5):
            image = torch.full((48, 64, 3), 40 * index, dtype=torch.uint8)
            save_image(folder / f"{index}.png", image)
        return {"path": str(folder)}

    def __call__(self, frames: Frames, cameras: Cameras, clip: Clip, seed: int) -> Frames:
        """Return the next frames of the file, without depth, as `VideoPrior` says.

        Args:
            frames: Frames so far. Their number says which frames of the file are next.
            cameras: Not used.
            clip: The clip to return.
            seed: Not used.

        Returns:
            The frames, at the size of the input.

        Raises:
            ValueError: If the file has too few frames, or another aspect ratio than the input.
        """
        start = len(frames) - 1
        stop = start + len(clip.cameras)
        if stop > len(self.images):
            raise ValueError(
                f"the plan asks for {stop} new frames with clip {clip.name!r}, "
                f"but {str(self.path)!r} has {len(self.images)}; "
                "choose a planner with fewer clips, such as single or path"
            )
        height, width = frames.images.shape[1:3]
        images = self._fit_size(self.images[start:stop], width, height)
        return Frames(images.to(frames.images.device))

    def _fit_size(
        self, images: UInt8[Tensor, "view y x 3"], width: int, height: int
    ) -> UInt8[Tensor, "view height width 3"]:
        """Crop images to the input's aspect ratio if `crop` allows it, and resize them."""
        rows, columns = images.shape[1:3]
        relative_aspect = (columns / rows) / (width / height)
        if abs(relative_aspect - 1) > _ASPECT_TOLERANCE:
            if not self.crop:
                raise ValueError(
                    f"prior.path has frames of {columns}x{rows} pixels, "
                    f"but the input is {width}x{height}: another shape; "
                    "choose prior.crop=true to cut out their middle, "
                    "or an input picture of their shape"
                )
            crop_rows = rows
            crop_columns = columns
            if relative_aspect > 1:
                crop_columns = round(columns / relative_aspect)
            else:
                crop_rows = round(rows * relative_aspect)
            top = (rows - crop_rows) // 2
            left = (columns - crop_columns) // 2
            images = images[:, top : top + crop_rows, left : left + crop_columns]
        return resize_images(images, width, height)
