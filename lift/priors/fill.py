"""Fills holes from what lies behind: colour and depth of the background continue into them, the foreground does not."""

import cv2
import numpy as np


def fill_behind(rgb: np.ndarray, inverse: np.ndarray, hole: np.ndarray, front: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colours [H W 3] and inverse depths [H W] with holes filled.

    front: known pixels whose surface ends at a hole because it stands before what the hole shows; they give nothing to it.
    """
    if not hole.any():
        return rgb, inverse
    ring = cv2.dilate(hole.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool) & ~hole
    seeds = ring & ~front
    if not seeds.any():
        seeds = ring if ring.any() else ~hole
    if not seeds.any():
        raise ValueError("nothing of the scene is in the picture: there is nothing to fill it from")
    values = np.concatenate([rgb, inverse[..., None]], axis=-1)
    smooth = push_pull(values, seeds)
    values = np.where(hole[..., None], smooth, values)
    return values[..., :3], values[..., 3]


def push_pull(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Smooth interpolation of known pixels [H W C] to all others (Gortler et al., "The lumigraph", SIGGRAPH 1996)."""
    weight = known.astype(np.float32)
    levels = [(values * weight[..., None], weight)]
    while min(levels[-1][1].shape) > 1 and not (levels[-1][1] > 0).all():
        value, weight = levels[-1]
        even = [(0, n % 2) for n in weight.shape]
        value, weight = np.pad(value, (*even, (0, 0))), np.pad(weight, even)
        value = value[::2, ::2] + value[1::2, ::2] + value[::2, 1::2] + value[1::2, 1::2]
        weight = weight[::2, ::2] + weight[1::2, ::2] + weight[::2, 1::2] + weight[1::2, 1::2]
        total = np.minimum(weight, 1)
        levels.append((value / np.maximum(weight, 1e-9)[..., None] * total[..., None], total))
    value, weight = levels.pop()
    coarse = value / np.maximum(weight, 1e-9)[..., None]
    if not (weight > 0).all():
        coarse = np.where((weight > 0)[..., None], coarse, value.sum((0, 1)) / weight.sum())
    while levels:
        value, weight = levels.pop()
        height, width = weight.shape
        coarse = cv2.resize(coarse.astype(np.float32), (2 * coarse.shape[1], 2 * coarse.shape[0]))[:height, :width]
        coarse = value + (1 - weight)[..., None] * coarse.reshape(height, width, -1)
    return coarse
