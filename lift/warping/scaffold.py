"""What the picture and the frames so far show of views to come: the condition of generators that complete a render.

The picture with its depth, and the frame that a clip continues with its own depth, brought to the picture's, are one textured surface (`surface`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lift.depths import DepthEstimator
from lift.multiview.depth_alignment import place
from lift.priors import Asked
from lift.runtime.parallel import each
from lift.types import Cameras, Depth
from lift.warping.fill import fill_behind, without_gaps
from lift.warping.surface import Surface, matrices_of

JUMP = 0.04
"""A step of inverse depth, in units of 1 / typical depth, at which the surface is cut."""
TOLERANCE = 0.05
"""Relative error of a guessed depth at which it is half believed."""


@dataclass(frozen=True)
class Rendered:
    """Views of what is known, holes filled smoothly from behind; how far each pixel is to be believed, 0 in holes; z-depth."""

    images: UInt8[Tensor, "view height width 3"]
    confidence: Float[Tensor, "view height width"]
    depth: Float[Tensor, "view height width"]


class Scaffold:
    """Renders of clips to come. depth: of the input picture. estimator: of the depth of frames that were made."""

    def __init__(self, depth: Depth, estimator: DepthEstimator | None) -> None:
        self.depth, self.estimator = depth, estimator
        self._first: tuple[bytes, Surface] | None = None

    def rendered(self, asked: Asked) -> Rendered:
        """The views of the frame that the clip continues and of the clip's cameras, at the run's size."""
        frames, source = asked.frames, asked.clip.source
        surface, beliefs = (
            self._of_first(_array(frames.images[0]), *matrices_of(asked.cameras[0])[0]).copy(),
            [1.0],
        )
        size = tuple(frames.images.shape[1:3])
        if source:
            to_camera, intrinsics = matrices_of(asked.cameras[source])[0]
            view = surface.look(to_camera, intrinsics, size[1], size[0])
            depth, belief = self._depth(
                frames.images[source],
                None if frames.depth is None else frames.depth[source],
                view.inverse,
            )
            surface.add(_array(frames.images[source]), depth, view.hole, to_camera, intrinsics)
            beliefs.append(belief)
        cameras = Cameras.cat([asked.cameras[source], asked.clip.cameras])
        views = each(
            lambda matrices: self._view(surface, beliefs, *matrices, size), matrices_of(cameras)
        )
        images, confidence, depths = (
            torch.from_numpy(np.stack(part)) for part in zip(*views, strict=True)
        )
        images[0], confidence[0] = frames.images[source].cpu(), 1.0
        return Rendered(images, confidence, depths)

    def _of_first(self, image: np.ndarray, *matrices: np.ndarray) -> Surface:
        """The input picture's surface, made once."""
        known = image.tobytes() + b"".join(matrix.tobytes() for matrix in matrices)
        if self._first is None or self._first[0] != known:
            surface = Surface(self.depth.typical, JUMP)
            surface.add(image, without_gaps(self.depth), np.ones(image.shape[:2], bool), *matrices)
            self._first = known, surface
        return self._first[1]

    def _depth(
        self, image: Tensor, given: Tensor | None, inverse: np.ndarray
    ) -> tuple[np.ndarray, float]:
        """A frame's depth in the world of the surface, and how far it agrees with it."""
        if given is None and self.estimator is not None:
            estimate = self.estimator(image)
            given = torch.where(estimate.valid, estimate.depth, 0.0)
        known = torch.from_numpy(
            np.where(inverse > 0, 1 / np.maximum(inverse, 1e-12), 0).astype(np.float32)
        )
        if given is not None:
            placed = place(given.cpu().float(), known, TOLERANCE)
            if placed.found:
                known_there = placed.depth > 0
                return without_gaps(Depth(placed.depth, known_there, "scale")), float(
                    placed.confidence[known_there].median()
                )
        hole = (
            inverse <= 0
        )  # nothing to go by: what is new lies as far away as what is known behind it
        _, filled = fill_behind(
            np.zeros((*inverse.shape, 3), np.float32), inverse, hole, np.zeros_like(hole), "smooth"
        )
        return (1 / filled).astype(np.float32), 0.5

    @staticmethod
    def _view(
        surface: Surface,
        beliefs: Sequence[float],
        to_camera: np.ndarray,
        intrinsics: np.ndarray,
        size: tuple[int, int],
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        view = surface.look(to_camera, intrinsics, size[1], size[0])
        hole = view.hole
        if hole.all():
            return (
                np.full((*size, 3), 127, np.uint8),
                np.zeros(size, np.float32),
                np.full(size, surface.unit, np.float32),
            )
        cell = view.cell[1::2, 1::2]
        belief = np.where(
            hole, 0.0, np.asarray(beliefs)[surface.cells[np.maximum(cell, 0), 0]]
        ).astype(np.float32)
        # The pixels beside a hole are mixed with what it is filled with.
        belief[cv2.dilate(hole.astype(np.uint8), np.ones((3, 3))) > 0] = 0
        rgb, inverse = fill_behind(view.rgb, view.inverse, hole, view.front, "smooth")
        return (
            np.clip(np.rint(rgb), 0, 255).astype(np.uint8),
            belief,
            (1 / inverse).astype(np.float32),
        )


def _array(image: Tensor) -> np.ndarray:
    return image.cpu().numpy()
