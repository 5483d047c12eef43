"""Steps of depth where the picture has them."""

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from numba import prange
from torch import Tensor

from lift.depths import DepthEstimator
from lift.runtime.jit import PARALLEL, compiled
from lift.types import Depth

STEP = 0.06
"""Share of all inverse depth that a window's has to span to hold a step."""
COLOR = 0.06
"""How far apart colours are, in 0 to 1, that still count as alike."""
WIDEST = 16
"""Pixels to either side within which sides are looked for, at most: it takes the square of it, and wider steps are slopes."""
OUTLINE = 0.04
"""The step of inverse depth between neighbouring pixels, in units of 1 / typical depth, that is an object's outline."""


class Hardened(DepthEstimator):
    """An estimator's depth in layers: see `hardened`. soft: in place of what the estimator says of itself; None: what it says."""

    def __init__(self, estimator: DepthEstimator, soft: float | None = None) -> None:
        self.estimator, self.soft = estimator, estimator.soft if soft is None else soft

    def __call__(self, image: UInt8[Tensor, "height width 3"]) -> Depth:
        return hardened(image, self.estimator(image), self.soft * max(image.shape[:2]) / 400)

    def draft(self, image: UInt8[Tensor, "height width 3"]) -> Depth:
        """The estimator's own draft, with its soft steps."""
        return self.estimator.draft(image)


def hardened(image: UInt8[Tensor, "height width 3"], depth: Depth, soft: float) -> Depth:
    """The depth with soft steps made hard where `image` has its edges, so that nothing hangs between an object and what is behind it, and the
    near side of each step one pixel wider: the mixed pixels of an object's outline must move with the object, or they stay behind as its ghost.

    soft: pixels to either side over which steps are soft; below a half they count as hard already.
    """
    values, valid = depth.depth.cpu().numpy().astype(np.float32), depth.valid.cpu().numpy()
    if not valid.any():
        return depth
    unit = depth.typical
    inverse = unit / np.where(valid, values, values[valid].max())
    radius = min(round(soft), WIDEST)
    if radius:
        hard = sharpened(image.cpu().numpy().astype(np.float32) / 255, inverse, radius)
        unknown = (
            cv2.dilate(
                (~valid).astype(np.uint8), np.ones((4 * radius + 1, 4 * radius + 1), np.uint8)
            )
            > 0
        )
        inverse = np.where(unknown, inverse, hard)  # a gap's border is no step
    high = extremes(inverse, 1)[1]
    inverse = np.where(high - inverse > OUTLINE, high, inverse)
    new = torch.from_numpy((unit / inverse).astype(np.float32)).to(depth.depth.device)
    return Depth(torch.where(depth.valid, new, depth.depth), depth.valid, depth.kind)


def sharpened(rgb: np.ndarray, inverse: np.ndarray, radius: int) -> np.ndarray:
    """Soft steps of inverse depth [height width] made hard: a pixel in between goes with the side that looks like it in `rgb` [height width 3], in 0 to 1.

    radius: pixels to either side over which steps are soft.
    """
    low, high, soft = steps(inverse, radius, STEP * float(np.ptp(inverse)), 0.65)
    if not soft.any():
        return inverse
    hard = _sided(np.ascontiguousarray(rgb, np.float32), inverse, soft, low, high, 2 * radius)
    # An outline's own pixels are mixtures of two colours and may resemble a third thing; what they are is said by their neighbours.
    return np.where(soft, cv2.medianBlur(hard.astype(np.float32), 5), hard)


def steps(
    inverse: np.ndarray, radius: int, least: float, share: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lowest and highest inverse depth within `radius` of each pixel, and whether a step of more than `least` lies between: on a plane inverse depth is
    linear, and a window twice as wide holds twice the change; on a step it holds the same, of which `share` is enough.
    """
    (low, high), (low_wide, high_wide) = extremes(inverse, radius), extremes(inverse, 2 * radius)
    return low, high, (high - low > least) & (high - low > share * (high_wide - low_wide))


def extremes(values: np.ndarray, radius: int) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest within a square window."""
    kernel = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    return cv2.erode(values, kernel), cv2.dilate(values, kernel)


@compiled(fastmath=True, parallel=PARALLEL)
def _sided(rgb, inverse, soft, low, high, radius):
    """For each soft pixel: the mean of what is beside the step on the side whose colours are like its own."""
    out = inverse.copy()
    height, width = inverse.shape
    for i in prange(height):
        for j in range(width):
            if not soft[i, j]:
                continue
            third = (high[i, j] - low[i, j]) / np.float32(3)
            near, far = (
                np.zeros(2, np.float32),
                np.zeros(2, np.float32),
            )  # of weights, of weights by inverse depth
            for a in range(max(0, i - radius), min(height, i + radius + 1)):
                for b in range(max(0, j - radius), min(width, j + radius + 1)):
                    value = inverse[a, b]
                    # What is itself halfway says nothing.
                    if (
                        low[i, j] + third < value < high[i, j] - third
                        or value > high[i, j] + third
                        or value < low[i, j] - third
                    ):
                        continue
                    d0, d1, d2 = (
                        rgb[a, b, 0] - rgb[i, j, 0],
                        rgb[a, b, 1] - rgb[i, j, 1],
                        rgb[a, b, 2] - rgb[i, j, 2],
                    )
                    away = np.float32((a - i) ** 2 + (b - j) ** 2) / np.float32(radius * radius)
                    weight = np.exp(-np.float32(2) * away)
                    alike = (
                        weight
                        * np.exp(-(d0 * d0 + d1 * d1 + d2 * d2) / np.float32(2 * COLOR * COLOR))
                        + np.float32(1e-6) * weight
                    )
                    side = near if value > (low[i, j] + high[i, j]) / np.float32(2) else far
                    side[0] += alike
                    side[1] += alike * value
            if near[0] > 0 and far[0] > 0:
                # By sums and not by means: who has more of this colour around has more of a claim.
                out[i, j] = near[1] / near[0] if near[0] > far[0] else far[1] / far[0]
    return out
