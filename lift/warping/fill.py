"""Fills holes from what lies behind: colour and depth of the background continue into them, the foreground does not."""

from typing import Literal

import cv2
import numpy as np
import torch

from lift.runtime.jit import compiled
from lift.types import Depth
from lift.warping import fill_network

Texture = Literal["patches", "network", "telea", "smooth"]
RADIUS = 3
"""Of the patches that texture is copied by, in pixels."""
THIN = 2.5
"""Half the width, in pixels, below which a gap shows no texture."""


def fill_behind(
    rgb: np.ndarray, inverse: np.ndarray, hole: np.ndarray, front: np.ndarray, texture: Texture
) -> tuple[np.ndarray, np.ndarray]:
    """Colours [H W 3] in 0..255 and inverse depths [H W], with holes filled; something must be known.

    front: known pixels whose surface ends at a hole because it stands before what the hole shows; they give nothing to it.
    texture: `patches` copies what lies around at like depth, `network` asks the one that comes with the package (`fill_network`) about holes that do
        not reach the picture's border and copies texture into those that do, `telea` is OpenCV's inpainting, `smooth` has none.
    """
    if not hole.any():
        return rgb, inverse
    count, label = cv2.connectedComponents(hole.astype(np.uint8))
    ring = _grown(hole, 1) & ~hole
    label = cv2.dilate(label.astype(np.float32), np.ones((3, 3))).astype(np.int32)
    seeds = ring & ~front
    seeded = np.bincount(label[seeds], minlength=count) > 0
    seeds |= ring & ~seeded[label]  # a gap within the foreground
    # What the outline of the hole missed: a seed that is much nearer than the others around it is foreground too.
    for _ in range(2):
        mean = push_pull(inverse[..., None], seeds, blend=True)[..., 0]
        kept = seeds & (inverse <= 1.05 * mean)
        seeds = kept if kept.any() else seeds
    inverse = np.where(hole, push_pull(inverse[..., None], seeds)[..., 0], inverse)
    smooth = np.where(hole[..., None], push_pull(rgb, seeds), rgb)
    if texture == "smooth":
        return smooth, inverse
    # What stands before the hole, as far from it as it could be mistaken for its surroundings.
    thickness = int(2 * cv2.distanceTransform(hole.astype(np.uint8), cv2.DIST_L2, 3).max()) + 2
    around = _grown(hole, max(2 * RADIUS, thickness)) & ~hole
    nearer = around & (front | (inverse > 1.1 * push_pull(inverse[..., None], seeds)[..., 0]))
    if texture == "telea":
        picture = np.clip(np.rint(smooth), 0, 255).astype(np.uint8)
        mask = (hole | nearer).astype(np.uint8)
        return np.where(
            hole[..., None], cv2.inpaint(picture, mask, 4, cv2.INPAINT_TELEA), rgb
        ), inverse
    if texture == "network":
        # What goes on beyond the border has a border on one side only, and the network makes that blurred.
        within = enclosed(hole)
        filled, beyond = by_network(smooth, inverse, within), hole & ~within
        return (
            _by_patches(filled, inverse, beyond, nearer | within) if beyond.any() else filled
        ), inverse
    return _by_patches(smooth, inverse, hole, nearer), inverse


def without_gaps(depth: Depth) -> np.ndarray:
    """A depth [H W] with what is not known of it filled from behind; something must be known."""
    values, valid = depth.depth.cpu().numpy().astype(np.float32), depth.valid.cpu().numpy()
    if valid.all():
        return values
    inverse = 1 / np.where(valid, values, depth.typical)
    _, inverse = fill_behind(
        np.zeros((*values.shape, 3), np.float32), inverse, ~valid, np.zeros_like(valid), "smooth"
    )
    return (1 / inverse).astype(np.float32)


def enclosed(hole: np.ndarray) -> np.ndarray:
    """What of a hole lies between things that are seen, and not at the picture's border."""
    _, label = cv2.connectedComponents(hole.astype(np.uint8))
    return hole & ~np.isin(label, np.concatenate([label[0], label[-1], label[:, 0], label[:, -1]]))


def by_network(smooth: np.ndarray, inverse: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Colours, with holes that are smoothly filled filled by the network that comes with the package; it is not asked where
    all are thin, which is not worth its time.
    """
    if (
        not hole.any()
        or cv2.distanceTransform(np.pad(hole, 1).astype(np.uint8), cv2.DIST_L2, 3).max() < THIN
    ):
        return smooth
    picture, far, missing = (
        torch.from_numpy(np.ascontiguousarray(a))
        for a in (smooth.transpose(2, 0, 1), inverse, hole)
    )
    with torch.inference_mode():
        filled = fill_network.fill(
            fill_network.shipped(), picture[None].float() / 255, far[None].float(), missing[None]
        )[0]
    return np.where(hole[..., None], 255 * filled.permute(1, 2, 0).numpy(), smooth)


def push_pull(values: np.ndarray, known: np.ndarray, blend: bool = False) -> np.ndarray:
    """Smooth interpolation of known pixels [H W C] to all others (Gortler et al., "The lumigraph", SIGGRAPH 1996); with `blend`,
    known pixels take the mean of their surroundings too.
    """
    weight = known.astype(np.float32)
    levels = [(values.astype(np.float32) * weight[..., None], weight)]
    while max(levels[-1][1].shape) > 1 and not (levels[-1][1] >= 1).all():
        value, weight = levels[-1]
        odd = [(0, n % 2) for n in weight.shape]
        value, weight = np.pad(value, (*odd, (0, 0))), np.pad(weight, odd)
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


def _by_patches(
    rgb: np.ndarray, inverse: np.ndarray, hole: np.ndarray, nearer: np.ndarray
) -> np.ndarray:
    """Coarse to fine, every patch that touches the hole is made to look like some patch of the picture at like depth (Wexler et al.,
    "Space-time completion of video", PAMI 2007; the search is PatchMatch, Barnes et al., SIGGRAPH 2009).
    """
    levels = [(rgb.astype(np.float32), np.log(inverse).astype(np.float32), hole, nearer)]
    while (
        _grown(~levels[-1][2], 2).sum() < levels[-1][2].size
        and min(levels[-1][2].shape) >= 16 * RADIUS
        and len(levels) < 4
    ):
        color, log, gap, near = levels[-1]
        height, width = gap.shape
        size = (width // 2, height // 2)
        shrunk = [cv2.resize(a, size, interpolation=cv2.INTER_AREA) for a in (color, log)]
        masks = [
            cv2.resize(m.astype(np.float32), size, interpolation=cv2.INTER_AREA)
            for m in (gap, near)
        ]
        levels.append((*shrunk, masks[0] > 0, (masks[1] > 0) & ~(masks[0] > 0)))
    match = None
    color = rgb
    for number, (start, log, gap, near) in enumerate(reversed(levels)):
        height, width = gap.shape
        inner = np.zeros_like(gap)
        inner[RADIUS : height - RADIUS, RADIUS : width - RADIUS] = True
        source = inner & ~_grown(gap | near, RADIUS)
        if not source.any():
            continue
        current = start.copy()
        if match is None:
            match = _nearest(source)
        else:
            finer = 2 * cv2.resize(
                match.astype(np.float32), (width, height), interpolation=cv2.INTER_NEAREST
            ).astype(np.int32)
            fits = source[finer[..., 0].clip(0, height - 1), finer[..., 1].clip(0, width - 1)]
            match = np.where(fits[..., None], finer, _nearest(source)).astype(np.int32)
            _vote(current, gap, near, match, source)
        targets = np.argwhere(gap).astype(np.int32)
        for sweep in range(6 if number == 0 else 3):
            _search(
                current,
                log,
                gap,
                near,
                source,
                targets[:: -1 if sweep % 2 else 1],
                match,
                -1 if sweep % 2 else 1,
                sweep,
            )
            _vote(current, gap, near, match, source)
        color = current
    return color if color.shape == rgb.shape else rgb


def _grown(mask: np.ndarray, radius: int) -> np.ndarray:
    return cv2.dilate(
        mask.astype(np.uint8), np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    ).astype(bool)


def _nearest(source: np.ndarray) -> np.ndarray:
    """Row and column of the nearest source pixel of each pixel."""
    _, label = cv2.distanceTransformWithLabels(
        (~source).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    places = np.zeros((label.max() + 1, 2), np.int32)
    places[label[source]] = np.argwhere(source)
    return places[label]


@compiled(fastmath=True)
def _cost(color, log, gap, near, i, j, si, sj, best):
    """Mean squared difference of two patches, plus what it costs to copy from another depth or from far away."""
    height, width = gap.shape
    apart = log[si, sj] - log[i, j]
    total = np.float32(3000) * apart * apart * (np.float32(3) if apart > 0 else np.float32(1))
    total += np.float32(200) * np.float32((si - i) ** 2 + (sj - j) ** 2) / np.float32(width * width)
    total, limit = total * np.float32(49), best * np.float32(49)
    for a in range(-RADIUS, RADIUS + 1):
        if total >= limit:
            return best
        if not 0 <= i + a < height:
            continue
        for b in range(-RADIUS, RADIUS + 1):
            if 0 <= j + b < width and not near[i + a, j + b]:
                weight = np.float32(0.6) if gap[i + a, j + b] else np.float32(1.5)
                for k in range(3):
                    d = color[i + a, j + b, k] - color[si + a, sj + b, k]
                    total += weight * d * d
    return total / np.float32(49)


@compiled()
def _search(color, log, gap, near, source, targets, match, step, seed):
    """One sweep: every hole pixel tries the matches of the neighbours it has just passed, then a few random ones."""
    height, width = gap.shape
    state = np.uint32(12345 + 977 * seed)
    for n in range(len(targets)):
        i, j = targets[n]
        best = _cost(color, log, gap, near, i, j, match[i, j, 0], match[i, j, 1], np.float32(1e30))
        for neighbour in range(2):
            ni, nj = (i - step, j) if neighbour == 0 else (i, j - step)
            if 0 <= ni < height and 0 <= nj < width and gap[ni, nj]:
                si, sj = match[ni, nj, 0] + i - ni, match[ni, nj, 1] + j - nj
                if 0 <= si < height and 0 <= sj < width and source[si, sj]:
                    cost = _cost(color, log, gap, near, i, j, si, sj, best)
                    if cost < best:
                        best, match[i, j, 0], match[i, j, 1] = cost, si, sj
        reach = max(height, width) // 2
        while reach >= 1:
            state = np.uint32(state * np.uint32(1664525) + np.uint32(1013904223))
            si = match[i, j, 0] + np.int64(state >> np.uint32(8)) % (2 * reach + 1) - reach
            state = np.uint32(state * np.uint32(1664525) + np.uint32(1013904223))
            sj = match[i, j, 1] + np.int64(state >> np.uint32(8)) % (2 * reach + 1) - reach
            if 0 <= si < height and 0 <= sj < width and source[si, sj]:
                cost = _cost(color, log, gap, near, i, j, si, sj, best)
                if cost < best:
                    best, match[i, j, 0], match[i, j, 1] = cost, si, sj
            reach //= 2


@compiled()
def _vote(color, gap, near, match, source):
    """Every hole pixel becomes the mean of what the patches over it want it to be, their middles counting most."""
    height, width = gap.shape
    before = color.copy()
    for i in range(height):
        for j in range(width):
            if not gap[i, j]:
                continue
            total, r, g, b = 0.0, 0.0, 0.0, 0.0
            for a in range(-RADIUS, RADIUS + 1):
                for c in range(-RADIUS, RADIUS + 1):
                    pi, pj = i + a, j + c
                    if 0 <= pi < height and 0 <= pj < width and gap[pi, pj]:
                        si, sj = match[pi, pj, 0] - a, match[pi, pj, 1] - c
                        weight = 1.0 / (1.0 + (a * a + c * c) ** 2)
                        total += weight
                        r += weight * before[si, sj, 0]
                        g += weight * before[si, sj, 1]
                        b += weight * before[si, sj, 2]
            color[i, j, 0], color[i, j, 1], color[i, j, 2] = r / total, g / total, b / total
