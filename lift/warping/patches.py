"""Fill holes with patches of the picture that surrounds them."""

import cv2
import numpy as np

from lift.runtime.jit import njit_cached

PATCH_RADIUS = 3
"""Radius in pixels of the patches that are copied."""


def fill_with_patches(
    rgb: np.ndarray,
    inverse: np.ndarray,
    hole: np.ndarray,
    nearer: np.ndarray,
    start_match: np.ndarray | None = None,
    sweeps: tuple[int, int] = (6, 3),
) -> np.ndarray:
    """Fill holes from coarse to fine with patches of the picture at similar depth.

    Every patch that overlaps the hole becomes similar to some patch of the picture.

    Args:
        rgb: Colours in 0..255, [height, width, 3], with holes smoothly filled.
        inverse: Inverse depth, [height, width], with holes filled.
        hole: Pixels to fill, [height, width].
        nearer: Pixels that no patch may copy, [height, width].
        start_match: Row and column of the pixel that the search starts from, [height, width, 2].
            None: the nearest known pixel.
        sweeps: Number of sweeps of the search at the coarsest level, and at each finer one.

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
        source = inner & ~dilate(gap | near, PATCH_RADIUS)
        if not source.any():
            continue
        current = start.copy()
        if match is None:
            match = nearest_source(source)
            if start_match is not None:
                coarse = _resize_match(start_match, gap.shape)
                match = np.where(source[coarse[..., 0], coarse[..., 1]][..., None], coarse, match)
                _vote(current, gap, near, match, source)
        else:
            finer = 2 * cv2.resize(
                match.astype(np.float32), (width, height), interpolation=cv2.INTER_NEAREST
            ).astype(np.int32)
            valid = source[finer[..., 0].clip(0, height - 1), finer[..., 1].clip(0, width - 1)]
            match = np.where(valid[..., None], finer, nearest_source(source)).astype(np.int32)
            _vote(current, gap, near, match, source)
        targets = np.argwhere(gap).astype(np.int32)
        for sweep in range(sweeps[min(number, 1)]):
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
        if dilate(~gap, 2).sum() >= gap.size or min(gap.shape) < 16 * PATCH_RADIUS:
            break
        height, width = gap.shape
        size = (width // 2, height // 2)
        small_color, small_log, small_gap, small_near = (
            cv2.resize(a.astype(np.float32), size, interpolation=cv2.INTER_AREA)
            for a in (color, log, gap, near)
        )
        levels.append((small_color, small_log, small_gap > 0, (small_near > 0) & ~(small_gap > 0)))
    return levels


def _resize_match(match: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Resize positions in a picture, [height, width, 2], to a smaller picture of `shape`."""
    index = [
        np.arange(small) * full // small for small, full in zip(shape, match.shape, strict=False)
    ]
    factors = np.array([full / small for small, full in zip(shape, match.shape, strict=False)])
    coarse = (match[np.ix_(*index)] / factors).astype(np.int32)
    return np.minimum(coarse, np.array(shape, np.int32) - 1)


def dilate(mask: np.ndarray, radius: int) -> np.ndarray:
    """Dilate a mask by a square of `radius` pixels to each side."""
    return cv2.dilate(
        mask.astype(np.uint8), np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    ).astype(bool)


def nearest_source(source: np.ndarray) -> np.ndarray:
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
