"""Partial renders of views to come, the condition of generators that complete them.

One textured surface (`surface`) holds the input picture and the frame that a clip continues, with
its depth aligned to the input's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lift.depths import DepthEstimator
from lift.multiview.depth_alignment import align_depth
from lift.priors import ClipRequest
from lift.runtime.parallel import parallel_map
from lift.types import Cameras, Depth
from lift.warping.fill import close_gaps, fill_behind
from lift.warping.surface import Surface, camera_matrices

EDGE_THRESHOLD = 0.04
"""Step of inverse depth at which the surface is cut, in units of 1 / typical depth."""
TOLERANCE = 0.05
"""Relative error at which the confidence of an estimated depth is 0.5."""


@dataclass(frozen=True)
class ScaffoldRender:
    """Partial renders, with holes smoothly filled from the background."""

    images: UInt8[Tensor, "view height width 3"]
    """Colours, 0 to 255."""
    confidence: Float[Tensor, "view height width"]
    """Confidence in [0, 1], 0 in holes."""
    depth: Float[Tensor, "view height width"]
    """z-depth in scene units."""


class Scaffold:
    """Renders the known part of clips to come.

    Args:
        depth: Depth of the input picture.
        estimator: Estimates the depth of generated frames. None: new pixels continue the
            background.
    """

    def __init__(self, depth: Depth, estimator: DepthEstimator | None) -> None:
        self.depth = depth
        self.estimator = estimator
        self._input_surface: tuple[bytes, Surface] | None = None

    def render(self, request: ClipRequest) -> ScaffoldRender:
        """Render the frame that the clip continues, and the clip's cameras.

        Args:
            request: The clip request.

        Returns:
            Renders at the run's size.
        """
        frames = request.frames
        source = request.clip.source
        matrices = camera_matrices(request.cameras[0])[0]
        surface = self._surface_of_input(_array(frames.images[0]), *matrices).copy()
        layer_confidence = [1.0]
        height, width = frames.images.shape[1:3]
        size = (height, width)
        if source:
            to_camera, intrinsics = camera_matrices(request.cameras[source])[0]
            view = surface.render(to_camera, intrinsics, width, height)
            depth, confidence = self._depth(
                frames.images[source],
                None if frames.depth is None else frames.depth[source],
                view.inverse,
            )
            surface.add(_array(frames.images[source]), depth, view.hole, to_camera, intrinsics)
            layer_confidence.append(confidence)
        cameras = Cameras.cat([request.cameras[source], request.clip.cameras])
        views = parallel_map(
            lambda matrices: self._view(surface, layer_confidence, *matrices, size),
            camera_matrices(cameras),
        )
        images, confidence, depths = (
            torch.from_numpy(np.stack(part)) for part in zip(*views, strict=True)
        )
        images[0] = frames.images[source].cpu()
        confidence[0] = 1.0
        return ScaffoldRender(images, confidence, depths)

    def _surface_of_input(self, image: np.ndarray, *matrices: np.ndarray) -> Surface:
        """Build the input picture's surface once."""
        key = image.tobytes() + b"".join(matrix.tobytes() for matrix in matrices)
        if self._input_surface is None or self._input_surface[0] != key:
            surface = Surface(self.depth.typical, EDGE_THRESHOLD)
            to_camera, intrinsics = matrices
            everywhere = np.ones(image.shape[:2], bool)
            surface.add(image, close_gaps(self.depth), everywhere, to_camera, intrinsics)
            self._input_surface = key, surface
        return self._input_surface[1]

    def _depth(
        self, image: Tensor, depth: Tensor | None, inverse: np.ndarray
    ) -> tuple[np.ndarray, float]:
        """Align a frame's depth to the surface, and compute its confidence."""
        if depth is None and self.estimator is not None:
            estimate = self.estimator(image)
            depth = torch.where(estimate.valid, estimate.depth, 0.0)
        reference = np.where(inverse > 0, 1 / np.maximum(inverse, 1e-12), 0).astype(np.float32)
        if depth is not None:
            aligned = align_depth(depth.cpu().float(), torch.from_numpy(reference), TOLERANCE)
            if aligned.success:
                valid = aligned.depth > 0
                confidence = float(aligned.confidence[valid].median())
                return close_gaps(Depth(aligned.depth, valid, "scale")), confidence
        # Without a usable depth, new pixels continue the background.
        hole = inverse <= 0
        _, filled = fill_behind(
            np.zeros((*inverse.shape, 3), np.float32), inverse, hole, np.zeros_like(hole), "smooth"
        )
        return (1 / filled).astype(np.float32), 0.5

    @staticmethod
    def _view(
        surface: Surface,
        layer_confidence: Sequence[float],
        to_camera: np.ndarray,
        intrinsics: np.ndarray,
        size: tuple[int, int],
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Render one view and fill its holes."""
        view = surface.render(to_camera, intrinsics, size[1], size[0])
        hole = view.hole
        if hole.all():
            return (
                np.full((*size, 3), 127, np.uint8),
                np.zeros(size, np.float32),
                np.full(size, surface.unit, np.float32),
            )
        cell = view.cell[1::2, 1::2]
        layer = surface.cells[np.maximum(cell, 0), 0]
        confidence = np.where(hole, 0.0, np.asarray(layer_confidence)[layer]).astype(np.float32)
        # The pixels beside a hole are mixed with its filling.
        confidence[cv2.dilate(hole.astype(np.uint8), np.ones((3, 3))) > 0] = 0
        rgb, inverse = fill_behind(view.rgb, view.inverse, hole, view.front, "smooth")
        return (
            np.clip(np.rint(rgb), 0, 255).astype(np.uint8),
            confidence,
            (1 / inverse).astype(np.float32),
        )


def _array(image: Tensor) -> np.ndarray:
    """Convert an image to numpy."""
    return image.cpu().numpy()
