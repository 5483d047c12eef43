"""A stand-in for a video generator: what depth alone can show."""

import hashlib
import math
from typing import Literal

import numpy as np
import torch

from lift.priors import VideoPrior, priors
from lift.runtime.parallel import each
from lift.types import Cameras, Clip, Depth, Frames
from lift.warping.fill import by_network, enclosed, fill_behind, without_gaps
from lift.warping.surface import Surface, matrices_of


@priors.register("warp")
class Warp(VideoPrior):
    """Moves the picture by its depth and fills what comes into view from the background; exact cameras, nothing to download.

    The picture, and whatever had to be filled in later frames, is one growing textured surface, cut where depth jumps; every frame
    is a picture of it, so all branches of the tree agree. A hole is filled once and is part of the scene from then on: in the frame that
    first shows it or, by the network, in the clip's last, which shows it whole. Deterministic: the seed changes nothing.

    jump: the step of inverse depth between neighbouring pixels, in units of 1 / typical depth, at which the surface is cut.
    fill: what holes are filled with, always from what lies behind: `patches` copies texture, `network` asks a small network that comes with
        the package, `telea` is OpenCV's inpainting (Telea 2004), `smooth` has no texture.
    """

    follows = "poses"
    agree = True
    exact_depth = True

    def __init__(
        self,
        jump: float = 0.04,
        fill: Literal["network", "patches", "telea", "smooth"] = "network",
        *,
        depth: Depth,
    ) -> None:
        if not 0 < jump < math.inf:
            raise ValueError(f"prior.jump is {jump}; choose a positive number")
        self.jump, self.fill, self.depth = jump, fill, depth
        self._surface: Surface | None = None
        self._seen: list[bytes] = []

    def __call__(self, frames: Frames, cameras: Cameras, clip: Clip, seed: int) -> Frames:
        size = tuple(frames.images.shape[1:3])
        if tuple(self.depth.depth.shape) != size:
            raise ValueError(
                f"the input's depth is {tuple(self.depth.depth.shape)} pixels, its picture {size}"
            )
        if len(frames) > 1 and frames.depth is None:
            raise ValueError("prior 'warp' continues frames with depth; these have none")
        surface, matrices = self._remembered(frames, cameras), matrices_of(clip.cameras)
        if ahead := self.fill == "network":
            # What is remembered grows in the order of the frames, whoever asks and whatever was asked before: here grows a copy.
            surface = surface.copy()
            self._fill_ahead(surface, *matrices[-1], size)
        images, depths = [], []
        for to_camera, intrinsics in matrices:
            view = surface.look(to_camera, intrinsics, size[1], size[0])
            hole = view.hole
            if hole.all():
                raise ValueError(
                    f"clip {clip.name!r} shows nothing known in frame {len(images) + 1}; choose a smaller motion"
                )
            view.rgb, inverse = fill_behind(view.rgb, view.inverse, hole, view.front, self.fill)
            image = np.clip(np.rint(surface.soften(view)), 0, 255).astype(np.uint8)
            depth = surface.recede((1 / inverse).astype(np.float32), hole, to_camera, intrinsics)
            surface.add(image, depth, hole, to_camera, intrinsics)
            if not ahead:
                self._seen.append(_digest(image, depth, to_camera, intrinsics))
            images.append(torch.from_numpy(image))
            depths.append(torch.from_numpy(depth))
        device = frames.images.device
        return Frames(torch.stack(images).to(device), torch.stack(depths).to(device))

    def _fill_ahead(
        self, surface: Surface, to_camera: np.ndarray, intrinsics: np.ndarray, size: tuple[int, int]
    ) -> None:
        """What will have come into view behind things by the clip's last frame, which shows it whole; frame by frame it would be strips."""
        view = surface.look(to_camera, intrinsics, size[1], size[0])
        hole = view.hole
        within = enclosed(hole)
        if within.any() and not hole.all():
            smooth, inverse = fill_behind(view.rgb, view.inverse, hole, view.front, "smooth")
            image = np.clip(np.rint(by_network(smooth, inverse, within)), 0, 255).astype(np.uint8)
            depth = surface.recede((1 / inverse).astype(np.float32), within, to_camera, intrinsics)
            surface.add(image, depth, within, to_camera, intrinsics)

    def _remembered(self, frames: Frames, cameras: Cameras) -> Surface:
        """The surface of all frames so far: the one at hand if it was made of just these, else built again from them."""
        images = frames.images.cpu().numpy()
        first = without_gaps(self.depth)
        depths = [first, *(frames.depth[1:].cpu().numpy() if frames.depth is not None else ())]
        views = list(zip(images, depths, *zip(*matrices_of(cameras), strict=True), strict=True))
        seen = each(lambda view: _digest(*view), views)
        if self._surface is None or self._seen != seen[: len(self._seen)]:
            self._surface, self._seen = Surface(self.depth.typical, self.jump), []
        for image, depth, to_camera, intrinsics in views[len(self._seen) :]:
            height, width = depth.shape
            new = (
                self._surface.look(to_camera, intrinsics, width, height).hole
                if self._surface.layers
                else np.ones(depth.shape, bool)
            )
            self._surface.add(image, depth, new, to_camera, intrinsics)
        self._seen = seen
        return self._surface


def _digest(*arrays: np.ndarray) -> bytes:
    state = hashlib.sha256()  # in hardware on most processors, so the fastest of the good ones
    for array in arrays:
        state.update(np.ascontiguousarray(array).data)
    return state.digest()
