"""Sharpen depth so that it steps where the picture has edges."""

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from numba import prange
from torch import Tensor

from lift.depths import DepthEstimator
from lift.depths.edges_torch import (
    COLOR_SIGMA,
    MIN_STEP,
    MIN_STEP_RATIO,
    OUTLINE_STEP,
    sharpen_inverse_map,
)
from lift.runtime.jit import PARALLEL, njit_cached
from lift.types import Depth

MAX_RADIUS = 16
"""Largest radius in pixels. The cost grows with its square, and wider steps are slopes."""


class SharpenedDepth(DepthEstimator):
    """Sharpens the depth of another estimator. See `sharpen_depth`.

    Args:
        estimator: The estimator to wrap.
        edge_width: Half width of its soft steps, in pixels of a picture 400 pixels long. None: the
            estimator's own `edge_width`.
        device: Device that sharpens. None: the CPU.
    """

    def __init__(
        self,
        estimator: DepthEstimator,
        edge_width: float | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        self.estimator = estimator
        self.device = device
        self.edge_width = estimator.edge_width if edge_width is None else edge_width

    def __call__(self, image: UInt8[Tensor, "height width 3"]) -> Depth:
        """Estimate depth and sharpen it."""
        edge_width = self.edge_width * max(image.shape[:2]) / 400
        return sharpen_depth(image, self.estimator(image), edge_width, self.device)

    def draft(self, image: UInt8[Tensor, "height width 3"]) -> Depth:
        """Return the estimator's own draft, with its soft steps. See `DepthEstimator`."""
        return self.estimator.draft(image)


def sharpen_depth(
    image: UInt8[Tensor, "height width 3"],
    depth: Depth,
    edge_width: float,
    device: torch.device | str | None = None,
) -> Depth:
    """Sharpen the steps of a depth map where the picture has its edges.

    Then no surface hangs between an object and its background. The near side of each step also
    grows by one pixel. The mixed pixels of an object's outline must move with the object. Otherwise
    they stay behind as a ghost.

    Args:
        image: The picture.
        depth: Its depth.
        edge_width: Half width of soft steps in pixels. Below 0.5 the steps are already sharp.
        device: Device of the computation. None: the CPU.

    Returns:
        The sharpened depth, on the device of `depth`.
    """
    if device is not None and torch.device(device).type != "cpu":
        return _sharpen_with_torch(image, depth, edge_width, device)
    values = depth.depth.cpu().numpy().astype(np.float32)
    valid = depth.valid.cpu().numpy()
    if not valid.any():
        return depth
    unit = depth.typical
    inverse = unit / np.where(valid, values, values[valid].max())
    radius = min(round(edge_width), MAX_RADIUS)
    if radius:
        sharp = sharpen_inverse_depth(image.cpu().numpy().astype(np.float32) / 255, inverse, radius)
        # The border of a gap in the depth is no step.
        kernel = np.ones((4 * radius + 1, 4 * radius + 1), np.uint8)
        near_gap = cv2.dilate((~valid).astype(np.uint8), kernel) > 0
        inverse = np.where(near_gap, inverse, sharp)
    high = local_extremes(inverse, 1)[1]
    inverse = np.where(high - inverse > OUTLINE_STEP, high, inverse)
    new = torch.from_numpy((unit / inverse).astype(np.float32)).to(depth.depth.device)
    return Depth(torch.where(depth.valid, new, depth.depth), depth.valid, depth.kind)


def _sharpen_with_torch(
    image: UInt8[Tensor, "height width 3"],
    depth: Depth,
    edge_width: float,
    device: torch.device | str,
) -> Depth:
    """Sharpen depth on a device. See `sharpen_depth`."""
    valid = depth.valid.to(device)
    if not bool(valid.any()):
        return depth
    values = depth.depth.to(device).float()
    unit = depth.typical
    inverse = unit / values.where(valid, values[valid].max())
    radius = min(round(edge_width), MAX_RADIUS)
    sharp = sharpen_inverse_map(image.to(device).float() / 255, inverse, valid, radius)
    new = torch.where(valid, unit / sharp, values).to(depth.depth)
    return Depth(new, depth.valid, depth.kind)


def sharpen_inverse_depth(rgb: np.ndarray, inverse: np.ndarray, radius: int) -> np.ndarray:
    """Sharpen soft steps of inverse depth.

    A pixel between both sides of a step joins the side whose colours resemble its own.

    Args:
        rgb: Colours in [0, 1], [height, width, 3].
        inverse: Inverse depth, [height, width].
        radius: Half width of soft steps in pixels.

    Returns:
        The sharpened inverse depth.
    """
    min_step = MIN_STEP * float(np.ptp(inverse))
    low, high, on_step = find_steps(inverse, radius, min_step, MIN_STEP_RATIO)
    if not on_step.any():
        return inverse
    colors = np.ascontiguousarray(rgb, np.float32)
    sharp = _choose_sides(colors, inverse, on_step, low, high, 2 * radius)
    # An outline's pixels mix two colours and may resemble a third object. Their neighbours decide.
    return np.where(on_step, cv2.medianBlur(sharp.astype(np.float32), 5), sharp)


def find_steps(
    inverse: np.ndarray, radius: int, min_step: float, min_ratio: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the pixels near a step of inverse depth.

    On a plane inverse depth is linear, so a window twice as wide contains twice the change. Across
    a step both windows contain the same change.

    Args:
        inverse: Inverse depth, [height, width].
        radius: Half width of the window in pixels.
        min_step: Smallest change across a step.
        min_ratio: Smallest ratio of the changes in both windows, in [0.5, 1].

    Returns:
        Lowest and highest inverse depth within `radius`, and the mask of pixels near a step.
    """
    low, high = local_extremes(inverse, radius)
    low_wide, high_wide = local_extremes(inverse, 2 * radius)
    step = high - low
    return low, high, (step > min_step) & (step > min_ratio * (high_wide - low_wide))


def local_extremes(values: np.ndarray, radius: int) -> tuple[np.ndarray, np.ndarray]:
    """Compute the lowest and highest value within a square window.

    Args:
        values: Values, [height, width].
        radius: Half width of the window in pixels.

    Returns:
        Minimum and maximum, both [height, width].
    """
    kernel = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    return cv2.erode(values, kernel), cv2.dilate(values, kernel)


@njit_cached(fastmath=True, parallel=PARALLEL)
def _choose_sides(rgb, inverse, on_step, low, high, radius):
    """Replace each pixel on a step by the mean of the side whose colours resemble its own."""
    out = inverse.copy()
    height, width = inverse.shape
    for i in prange(height):
        for j in range(width):
            if not on_step[i, j]:
                continue
            third = (high[i, j] - low[i, j]) / np.float32(3)
            # Sums of weights, and of weights times inverse depth.
            near = np.zeros(2, np.float32)
            far = np.zeros(2, np.float32)
            for a in range(max(0, i - radius), min(height, i + radius + 1)):
                for b in range(max(0, j - radius), min(width, j + radius + 1)):
                    value = inverse[a, b]
                    # A pixel that is itself between both sides has no vote.
                    if (
                        low[i, j] + third < value < high[i, j] - third
                        or value > high[i, j] + third
                        or value < low[i, j] - third
                    ):
                        continue
                    d0 = rgb[a, b, 0] - rgb[i, j, 0]
                    d1 = rgb[a, b, 1] - rgb[i, j, 1]
                    d2 = rgb[a, b, 2] - rgb[i, j, 2]
                    distance = np.float32((a - i) ** 2 + (b - j) ** 2) / np.float32(radius * radius)
                    weight = np.exp(-np.float32(2) * distance)
                    similarity = (
                        weight
                        * np.exp(
                            -(d0 * d0 + d1 * d1 + d2 * d2)
                            / np.float32(2 * COLOR_SIGMA * COLOR_SIGMA)
                        )
                        + np.float32(1e-6) * weight
                    )
                    side = near if value > (low[i, j] + high[i, j]) / np.float32(2) else far
                    side[0] += similarity
                    side[1] += similarity * value
            if near[0] > 0 and far[0] > 0:
                # Compare sums, not means: the side with more pixels of this colour wins.
                out[i, j] = near[1] / near[0] if near[0] > far[0] else far[1] / far[0]
    return out
