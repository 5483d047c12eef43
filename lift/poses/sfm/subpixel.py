"""Positions of matched keypoints to a tenth of a pixel.

Networks find keypoints to about half a pixel. Each track is therefore aligned to the patch around
one of its sightings, by translation (Lucas and Kanade, IJCAI 1981, in the inverse compositional
form of Baker and Matthews, IJCV 2004); brightness and contrast of the patches may differ.
"""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import UInt8
from numba import prange
from torch import Tensor

from lift.poses.sfm.bundle import Sightings
from lift.runtime.jit import PARALLEL, array, compiled, one_at_a_time

RADIUS = 4
"""Half width of a patch, in pixels."""
STEPS = 15
"""Largest number of steps of one alignment."""
FARTHEST = 2.0
"""Largest correction in pixels; a larger one is not believed."""
SIMILAR = 0.85
"""Normalised cross-correlation that aligned patches must have."""
UNREFINED = 0.25
"""Weight of a sighting that could not be aligned."""


def refined(sightings: Sightings, images: UInt8[Tensor, "frame height width 3"]) -> Sightings:
    """Sightings with positions corrected by their pictures.

    Args:
        sightings: Points seen in frames, to about a pixel.
        images: The frames.

    Returns:
        The same sightings; those that could not be aligned keep their position and count
        UNREFINED.
    """
    if not len(sightings):
        return sightings
    grey = images.float().mean(-1).cpu()
    order = (sightings.point * len(images) + sightings.frame).argsort().cpu()
    point = sightings.point.cpu()[order]
    start = torch.cat([point.new_zeros(1), torch.bincount(point).cumsum(0)])
    frame = sightings.frame.cpu()[order]
    pixel = sightings.pixel.cpu()[order].double()
    with one_at_a_time:
        moved, good = _align_tracks(array(grey), array(start), array(frame), array(pixel))
    new = torch.empty_like(pixel)
    new[order] = torch.from_numpy(moved)
    weight = torch.empty(len(pixel), dtype=torch.float64)
    weight[order] = torch.where(torch.from_numpy(good), 1.0, UNREFINED).double()
    return replace(
        sightings,
        pixel=new.to(sightings.pixel),
        weight=sightings.weight * weight.to(sightings.weight),
    )


@compiled(parallel=PARALLEL)
def _align_tracks(images, start, frame, pixel):
    """Aligns each track to the sighting in its middle."""
    moved = pixel.copy()
    good = np.zeros(len(pixel), np.bool_)
    for track in prange(len(start) - 1):
        first, last = start[track], start[track + 1]
        if last - first < 2:
            continue
        middle = (first + last) // 2
        good[middle] = True
        template = images[frame[middle]]
        for other in range(first, last):
            if other != middle:
                found, x, y = _align(template, pixel[middle], images[frame[other]], pixel[other])
                if found:
                    moved[other, 0], moved[other, 1] = x, y
                    good[other] = True
    return moved, good


@compiled()
def _sample(image, x, y):
    """Brightness at a position whose pixel centres lie at +0.5."""
    u, v = x - 0.5, y - 0.5
    j, i = int(np.floor(u)), int(np.floor(v))
    s, t = v - i, u - j
    top = image[i, j] + t * (image[i, j + 1] - image[i, j])
    bottom = image[i + 1, j] + t * (image[i + 1, j + 1] - image[i + 1, j])
    return top + s * (bottom - top)


@compiled()
def _inside(image, x, y):
    """Whether a patch and its gradients lie in the picture."""
    height, width = image.shape
    border = RADIUS + 2
    return border < x < width - border and border < y < height - border


@compiled()
def _align(template, at, image, start):
    """Whether the patch was found again, and where."""
    size = 2 * RADIUS + 1
    count = size * size
    if not _inside(template, at[0], at[1]):
        return False, 0.0, 0.0
    patch, slope_x, slope_y = np.empty(count), np.empty(count), np.empty(count)
    k = 0
    for i in range(size):
        for j in range(size):
            x, y = at[0] + j - RADIUS, at[1] + i - RADIUS
            patch[k] = _sample(template, x, y)
            slope_x[k] = (_sample(template, x + 1, y) - _sample(template, x - 1, y)) / 2
            slope_y[k] = (_sample(template, x, y + 1) - _sample(template, x, y - 1)) / 2
            k += 1
    patch -= patch.mean()
    slope_x -= slope_x.mean()
    slope_y -= slope_y.mean()
    norm = np.sqrt((patch * patch).sum())
    xx, xy, yy = (slope_x * slope_x).sum(), (slope_x * slope_y).sum(), (slope_y * slope_y).sum()
    determinant = xx * yy - xy * xy
    if norm < 1e-6 or determinant < 1e-3 * (xx + yy) ** 2 / 4 + 1e-9:
        return False, 0.0, 0.0
    x, y = start[0], start[1]
    own = np.empty(count)
    likeness = 0.0
    for _ in range(STEPS):
        if not _inside(image, x, y) or (x - start[0]) ** 2 + (y - start[1]) ** 2 > FARTHEST**2:
            return False, 0.0, 0.0
        k = 0
        for i in range(size):
            for j in range(size):
                own[k] = _sample(image, x + j - RADIUS, y + i - RADIUS)
                k += 1
        own -= own.mean()
        other = np.sqrt((own * own).sum())
        if other < 1e-6:
            return False, 0.0, 0.0
        likeness = (own * patch).sum() / (norm * other)
        error = own * (norm / other) - patch
        bx, by = (slope_x * error).sum(), (slope_y * error).sum()
        dx = (yy * bx - xy * by) / determinant
        dy = (xx * by - xy * bx) / determinant
        x -= dx
        y -= dy
        if dx * dx + dy * dy < 1e-4:
            break
    if likeness < SIMILAR or not _inside(image, x, y):
        return False, 0.0, 0.0
    return True, x, y
