"""Fill holes from the background: its colour and depth continue into them."""

from typing import Literal

import cv2
import numpy as np
import torch

from lift.runtime.jit import njit_cached
from lift.types import Depth
from lift.warping import fill_network

FillMethod = Literal["patches", "network", "telea", "smooth"]
"""How holes get texture. See `fill_behind`."""
PATCH_RADIUS = 3
"""Radius in pixels of the patches that are copied."""
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
            others. `telea` is OpenCV's inpainting. `smooth` adds no texture.

    Returns:
        Colours and inverse depth with the holes filled.
    """
    if not hole.any():
        return rgb, inverse
    seeds = _find_seeds(inverse, hole, front)
    inverse = np.where(hole, push_pull(inverse[..., None], seeds)[..., 0], inverse)
    smooth = np.where(hole[..., None], push_pull(rgb, seeds), rgb)
    if texture == "smooth":
        return smooth, inverse
    # The foreground at the hole, as far away as it could be mistaken for the hole's surroundings.
    thickness = int(2 * cv2.distanceTransform(hole.astype(np.uint8), cv2.DIST_L2, 3).max()) + 2
    surroundings = _dilate(hole, max(2 * PATCH_RADIUS, thickness)) & ~hole
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
        if outer.any():
            filled = _fill_with_patches(filled, inverse, outer, nearer | inner)
        return filled, inverse
    return _fill_with_patches(smooth, inverse, hole, nearer), inverse


def _find_seeds(inverse: np.ndarray, hole: np.ndarray, front: np.ndarray) -> np.ndarray:
    """Find the background pixels beside holes, from which depth and colour continue."""
    count, label = cv2.connectedComponents(hole.astype(np.uint8))
    ring = _dilate(hole, 1) & ~hole
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
    if (
        not hole.any()
        or cv2.distanceTransform(np.pad(hole, 1).astype(np.uint8), cv2.DIST_L2, 3).max()
        < MIN_GAP_RADIUS
    ):
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


def _fill_with_patches(
    rgb: np.ndarray, inverse: np.ndarray, hole: np.ndarray, nearer: np.ndarray
) -> np.ndarray:
    """Fill holes from coarse to fine with patches of the picture at similar depth.

    Every patch that overlaps the hole becomes similar to some patch of the picture.

    Args:
        rgb: Colours in 0..255, [height, width, 3], with holes smoothly filled.
        inverse: Inverse depth, [height, width], with holes filled.
        hole: Pixels to fill, [height, width].
        nearer: Pixels that no patch may copy, [height, width].

    Returns:
        Colours with the holes filled.

    Reference:
        Wexler et al., "Space-time completion of video", PAMI 2007. The search is PatchMatch
        (Barnes et al., SIGGRAPH 2009).
    """
    match = None
    color = rgb
    levels = _build_pyramid(rgb, np.log(inverse), hole, nearer)
    for number, (start, log, gap, near) in enumerate(reversed(levels)):
        height, width = gap.shape
        inner = np.zeros_like(gap)
        inner[PATCH_RADIUS : height - PATCH_RADIUS, PATCH_RADIUS : width - PATCH_RADIUS] = True
        source = inner & ~_dilate(gap | near, PATCH_RADIUS)
        if not source.any():
            continue
        current = start.copy()
        if match is None:
            match = _nearest_source(source)
        else:
            finer = 2 * cv2.resize(
                match.astype(np.float32), (width, height), interpolation=cv2.INTER_NEAREST
            ).astype(np.int32)
            valid = source[finer[..., 0].clip(0, height - 1), finer[..., 1].clip(0, width - 1)]
            match = np.where(valid[..., None], finer, _nearest_source(source)).astype(np.int32)
            _vote(current, gap, near, match, source)
        targets = np.argwhere(gap).astype(np.int32)
        for sweep in range(6 if number == 0 else 3):
            step = -1 if sweep % 2 else 1
            _search(current, log, gap, near, source, targets[::step], match, step, sweep)
            _vote(current, gap, near, match, source)
        color = current
    return color if color.shape == rgb.shape else rgb


def _build_pyramid(
    rgb: np.ndarray, log_inverse: np.ndarray, hole: np.ndarray, nearer: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Halve colours, logarithm of inverse depth and masks until the holes are small."""
    levels: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = [
        (rgb.astype(np.float32), log_inverse.astype(np.float32), hole, nearer)
    ]
    while len(levels) < 4:
        color, log, gap, near = levels[-1]
        if _dilate(~gap, 2).sum() >= gap.size or min(gap.shape) < 16 * PATCH_RADIUS:
            break
        height, width = gap.shape
        size = (width // 2, height // 2)
        small_color, small_log, small_gap, small_near = (
            cv2.resize(a.astype(np.float32), size, interpolation=cv2.INTER_AREA)
            for a in (color, log, gap, near)
        )
        levels.append((small_color, small_log, small_gap > 0, (small_near > 0) & ~(small_gap > 0)))
    return levels


def _dilate(mask: np.ndarray, radius: int) -> np.ndarray:
    """Dilate a mask by a square of `radius` pixels to each side."""
    return cv2.dilate(
        mask.astype(np.uint8), np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    ).astype(bool)


def _nearest_source(source: np.ndarray) -> np.ndarray:
    """Find row and column of the nearest source pixel of each pixel."""
    labels = cv2.distanceTransformWithLabels(
        (~source).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )[1]
    label = np.asarray(labels, np.int32)
    positions = np.zeros((int(label.max()) + 1, 2), np.int32)
    positions[label[source]] = np.argwhere(source)
    return positions[label]


@njit_cached(fastmath=True)
def _cost(color, log, gap, near, i, j, si, sj, best):
    """Compute the mean squared difference of two patches, plus costs of depth and distance."""
    height, width = gap.shape
    difference = log[si, sj] - log[i, j]
    total = (
        np.float32(3000)
        * difference
        * difference
        * (np.float32(3) if difference > 0 else np.float32(1))
    )
    total += np.float32(200) * np.float32((si - i) ** 2 + (sj - j) ** 2) / np.float32(width * width)
    total = total * np.float32(49)
    limit = best * np.float32(49)
    for a in range(-PATCH_RADIUS, PATCH_RADIUS + 1):
        if total >= limit:
            return best
        if not 0 <= i + a < height:
            continue
        for b in range(-PATCH_RADIUS, PATCH_RADIUS + 1):
            if 0 <= j + b < width and not near[i + a, j + b]:
                weight = np.float32(0.6) if gap[i + a, j + b] else np.float32(1.5)
                for k in range(3):
                    d = color[i + a, j + b, k] - color[si + a, sj + b, k]
                    total += weight * d * d
    return total / np.float32(49)


@njit_cached()
def _search(color, log, gap, near, source, targets, match, step, seed):
    """Sweep once over the hole: try the matches of two neighbours, then random matches."""
    height, width = gap.shape
    state = np.uint32(12345 + 977 * seed)
    for n in range(len(targets)):
        i, j = targets[n]
        best = _cost(color, log, gap, near, i, j, match[i, j, 0], match[i, j, 1], np.float32(1e30))
        for neighbour in range(2):
            ni, nj = (i - step, j) if neighbour == 0 else (i, j - step)
            if 0 <= ni < height and 0 <= nj < width and gap[ni, nj]:
                si = match[ni, nj, 0] + i - ni
                sj = match[ni, nj, 1] + j - nj
                if 0 <= si < height and 0 <= sj < width and source[si, sj]:
                    cost = _cost(color, log, gap, near, i, j, si, sj, best)
                    if cost < best:
                        best = cost
                        match[i, j, 0] = si
                        match[i, j, 1] = sj
        radius = max(height, width) // 2
        while radius >= 1:
            state = np.uint32(state * np.uint32(1664525) + np.uint32(1013904223))
            si = match[i, j, 0] + np.int64(state >> np.uint32(8)) % (2 * radius + 1) - radius
            state = np.uint32(state * np.uint32(1664525) + np.uint32(1013904223))
            sj = match[i, j, 1] + np.int64(state >> np.uint32(8)) % (2 * radius + 1) - radius
            if 0 <= si < height and 0 <= sj < width and source[si, sj]:
                cost = _cost(color, log, gap, near, i, j, si, sj, best)
                if cost < best:
                    best = cost
                    match[i, j, 0] = si
                    match[i, j, 1] = sj
            radius //= 2


@njit_cached()
def _vote(color, gap, near, match, source):
    """Set every hole pixel to the weighted mean of the patches that overlap it."""
    height, width = gap.shape
    before = color.copy()
    for i in range(height):
        for j in range(width):
            if not gap[i, j]:
                continue
            total = 0.0
            r = 0.0
            g = 0.0
            b = 0.0
            for a in range(-PATCH_RADIUS, PATCH_RADIUS + 1):
                for c in range(-PATCH_RADIUS, PATCH_RADIUS + 1):
                    pi = i + a
                    pj = j + c
                    if 0 <= pi < height and 0 <= pj < width and gap[pi, pj]:
                        si = match[pi, pj, 0] - a
                        sj = match[pi, pj, 1] - c
                        weight = 1.0 / (1.0 + (a * a + c * c) ** 2)
                        total += weight
                        r += weight * before[si, sj, 0]
                        g += weight * before[si, sj, 1]
                        b += weight * before[si, sj, 2]
            color[i, j, 0] = r / total
            color[i, j, 1] = g / total
            color[i, j, 2] = b / total
