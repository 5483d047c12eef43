"""What is truly known of some pictures: their depth, and views that no run was given."""

from dataclasses import dataclass

import torch

from lift.depths.known import Known
from lift.io.image import Picture, load_picture
from lift.scenes import SCENES
from lift.scenes import render as ray_cast
from lift.types import Cameras, Depth, Frames

BASELINE = 0.193001
"""Metres from motorcycle_left to motorcycle_right (Middlebury 2014)."""


@dataclass(frozen=True)
class Truth:
    """True views with their cameras, and the input's true depth, in the truth's own unit of length."""

    frames: Frames
    cameras: Cameras
    depth: Depth
    source: str


def truth_of(image: str | tuple[str, ...], picture: Picture, path: Cameras) -> Truth | None:
    """The truth about a built-in picture, None about all others.

    path: cameras that no frame was generated for, in the truth's unit: a ray-cast scene is seen from there.
    """
    if image in SCENES:
        start = ray_cast(image, picture.cameras)
        depth = Depth(start.depth[0], start.depth[0] > 0, "metric")
        return Truth(ray_cast(image, path), path, depth, "ray-cast from cameras that were not generated")
    if image == "motorcycle_left":
        right = load_picture("motorcycle_right", max(picture.cameras.width, picture.cameras.height), 55.0)
        moved = torch.eye(4)[None].clone()
        moved[0, 0, 3] = -BASELINE
        cameras = Cameras(moved, right.cameras.intrinsics, right.cameras.width, right.cameras.height)
        depth = Known(image=image, camera=picture.cameras)(picture.frames.images[0])
        return Truth(right.frames, cameras, depth, "the right photograph and the measured disparity of the stereo pair")
    return None
