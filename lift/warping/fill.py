"""Fill holes from the background: its colour and depth continue into them."""

from typing import Literal

import cv2
import numpy as np
import torch

from lift.types import Depth
from lift.warping import fill_network
from lift.warping.patches import PATCH_RADIUS, dilate, fill_with_patches

FillMethod = Literal["patches", "network", "telea", "smooth"]
"""How holes get texture. See `fill_behind`."""
MIN_GAP_RADIUS = 2.5
"""Half width in pixels below which a gap shows no texture."""


def fill_behind(
    rgb: np.ndarray, inverse: np.ndarray, hole: np.ndarray, front: np.ndarray, texture: FillMethod
) -> tuple[np.ndarray, np.ndarray]:
    """Fill holes from the background. At least one pixel must be known.

    Args:
        rgb: Colours in 0..255, [height, width, 3].
        inverse: Inverse depth, [height, width].
        hole: Pixels to fill, [height, width].
        front: Known pixels of a surface that ends at a hole because it is in front of it. They do
            not contribute to the filling.
        texture: `patches` copies surroundings at similar depth. `network` uses the shipped network
            (`fill_network`) for holes that do not touch the picture's border, and patches for the
            others. Neither fills holes that are all thin (`MIN_GAP_RADIUS`). `telea` is OpenCV's
            inpainting. `smooth` adds no texture.

    Returns:
        Colours and inverse depth with the holes filled.
    """
    if not hole.any():
        return rgb, inverse
    if hole.all():
        raise ValueError("nothing of the view is known, so its holes cannot be filled")
    seeds = _find_seeds(inverse, hole, front)
    inverse = np.where(hole, push_pull(inverse[..., None], seeds)[..., 0], inverse)
    smooth = np.where(hole[..., None], push_pull(rgb, seeds), rgb)
    if texture == "smooth":
        return smooth, inverse
    # The foreground at the hole, as far away as it could be mistaken for the hole's surroundings.
    thickness = int(2 * cv2.distanceTransform(hole.astype(np.uint8), cv2.DIST_L2, 3).max()) + 2
    surroundings = dilate(hole, max(2 * PATCH_RADIUS, thickness)) & ~hole
    background = push_pull(inverse[..., None], seeds)[..., 0]
    nearer = surroundings & (front | (inverse > 1.1 * background))
    if texture == "telea":
        picture = np.clip(np.rint(smooth), 0, 255).astype(np.uint8)
        mask = (hole | nearer).astype(np.uint8)
        inpainted = cv2.inpaint(picture, mask, 4, cv2.INPAINT_TELEA)
        return np.where(hole[..., None], inpainted, rgb), inverse
    if texture == "network":
        # A hole at the picture's border is bounded on one side only, and the network blurs it.
        inner = interior_holes(hole)
        filled = fill_with_network(smooth, inverse, inner)
        outer = hole & ~inner
        if _radius(outer) >= MIN_GAP_RADIUS:
            filled = fill_with_patches(filled, inverse, outer, nearer | inner)
        return filled, inverse
    return fill_with_patches(smooth, inverse, hole, nearer), inverse


def _find_seeds(inverse: np.ndarray, hole: np.ndarray, front: np.ndarray) -> np.ndarray:
    """Find the background pixels beside holes, from which depth and colour continue."""
    count, label = cv2.connectedComponents(hole.astype(np.uint8))
    ring = dilate(hole, 1) & ~hole
    label = cv2.dilate(label.astype(np.float32), np.ones((3, 3))).astype(np.int32)
    seeds = ring & ~front
    has_seed = np.bincount(label[seeds], minlength=count) > 0
    seeds |= ring & ~has_seed[label]  # a gap within the foreground
    # A seed that is much nearer than the seeds around it is foreground too.
    for _ in range(2):
        mean = push_pull(inverse[..., None], seeds, blend=True)[..., 0]
        background = seeds & (inverse <= 1.05 * mean)
        seeds = background if background.any() else seeds
    return seeds


def close_gaps(depth: Depth) -> np.ndarray:
    """Fill the invalid pixels of a depth map from the background.

    Args:
        depth: Depth with at least one valid pixel.

    Returns:
        z-depth, [height, width].
    """
    values = depth.depth.cpu().numpy().astype(np.float32)
    valid = depth.valid.cpu().numpy()
    if valid.all():
        return values
    inverse = 1 / np.where(valid, values, depth.typical)
    _, inverse = fill_behind(
        np.zeros((*values.shape, 3), np.float32), inverse, ~valid, np.zeros_like(valid), "smooth"
    )
    return (1 / inverse).astype(np.float32)


def interior_holes(hole: np.ndarray) -> np.ndarray:
    """Select the holes that do not touch the picture's border.

    Args:
        hole: Mask of holes, [height, width].

    Returns:
        Mask of interior holes.
    """
    _, label = cv2.connectedComponents(hole.astype(np.uint8))
    return hole & ~np.isin(label, np.concatenate([label[0], label[-1], label[:, 0], label[:, -1]]))


def fill_with_network(smooth: np.ndarray, inverse: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Fill smoothly filled holes with the shipped network. Skip it if all holes are thin.

    Args:
        smooth: Colours in 0..255 with holes smoothly filled, [height, width, 3].
        inverse: Inverse depth with holes filled, [height, width].
        hole: Pixels to fill, [height, width].

    Returns:
        Colours in 0..255.
    """
    if _radius(np.pad(hole, 1)) < MIN_GAP_RADIUS:
        return smooth
    picture, background, missing = (
        torch.from_numpy(np.ascontiguousarray(a))
        for a in (smooth.transpose(2, 0, 1), inverse, hole)
    )
    with torch.inference_mode():
        filled = fill_network.fill_holes(
            fill_network.load_shipped(),
            picture[None].float() / 255,
            background[None].float(),
            missing[None],
        )[0]
    return np.where(hole[..., None], 255 * filled.permute(1, 2, 0).numpy(), smooth)


def _radius(hole: np.ndarray) -> float:
    """Return the largest distance of a hole's pixel to the nearest known pixel, 0 without holes."""
    if not hole.any():
        return 0.0
    return float(cv2.distanceTransform(hole.astype(np.uint8), cv2.DIST_L2, 3).max())


def push_pull(values: np.ndarray, valid: np.ndarray, blend: bool = False) -> np.ndarray:
    """Interpolate valid pixels smoothly to all pixels.

    Args:
        values: Values, [height, width, channel].
        valid: Mask of valid pixels, [height, width].
        blend: Whether valid pixels are replaced by the mean of their surroundings too.

    Returns:
        Values everywhere.

    Reference:
        Gortler et al., "The lumigraph", SIGGRAPH 1996.
    """
    weight = valid.astype(np.float32)
    levels = [(values.astype(np.float32) * weight[..., None], weight)]
    while max(levels[-1][1].shape) > 1 and not (levels[-1][1] >= 1).all():
        value, weight = levels[-1]
        odd = [(0, n % 2) for n in weight.shape]
        value = np.pad(value, (*odd, (0, 0)))
        weight = np.pad(weight, odd)
        value = value[::2, ::2] + value[1::2, ::2] + value[::2, 1::2] + value[1::2, 1::2]
        weight = weight[::2, ::2] + weight[1::2, ::2] + weight[::2, 1::2] + weight[1::2, 1::2]
        total = np.minimum(weight, 1)
        levels.append((value * (total / np.maximum(weight, 1e-9))[..., None], total))
    value, weight = levels.pop()
    coarse = value / np.maximum(weight, 1e-9)[..., None]
    while levels:
        value, weight = levels.pop()
        height, width = weight.shape
        coarse = cv2.resize(coarse, (2 * coarse.shape[1], 2 * coarse.shape[0]))[
            :height, :width
        ].reshape(height, width, -1)
        if len(levels) > 2 or not blend:
            coarse = value + (1 - weight)[..., None] * coarse
    return coarse
